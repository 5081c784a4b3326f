package election

import (
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestLeasesAreReadAsSpeakersWriteThem(t *testing.T) {
	at := metav1.NewMicroTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	lease := &coordinationv1.Lease{}
	heartbeat(lease, Owner{"n1", "e"}, Info{Unfit: []string{"10.0.0.1"}}, 4500*time.Millisecond, at)
	read := func() Heartbeat {
		t.Helper()
		got, err := ReadHeartbeat("n1", lease)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	got := read()
	if got.Owner != (Owner{"n1", "e"}) || len(got.Info.Unfit) != 1 || got.Restarts || got.RevokedBy != "" || !got.Renewed.Equal(at.Time) {
		t.Errorf("%+v", got)
	}
	if _, silent := got.Silent(at.Add(6 * time.Second)); silent {
		t.Error("it is silent after 6 s")
	}
	if since, silent := got.Silent(at.Add(7 * time.Second)); !silent || !since.Equal(at.Time) {
		t.Errorf("silent after 7 s: %v, since %v", silent, since)
	}
	lease.ManagedFields = []metav1.ManagedFieldsEntry{{}, {Time: &metav1.Time{Time: at.Add(time.Hour)}}}
	if got = read(); !got.Renewed.Equal(at.Add(time.Hour)) {
		t.Errorf("written at %v: not by the API server's clock", got.Renewed)
	}
	restarting(lease, 30*time.Second)
	if got = read(); !got.Restarts || got.Lasts != 30*time.Second {
		t.Errorf("restarting: %+v", got)
	}
	revoke(lease, "n2", "node n1 answers nobody")
	if got = read(); got.Owner != (Owner{Node: "n1"}) || got.RevokedBy != "n2" || got.RevokedFor != "node n1 answers nobody" || got.Restarts {
		t.Errorf("revoked: %+v", got)
	}
	delete(lease.Annotations, annotationSpeaker)
	if _, err := ReadHeartbeat("n1", lease); err == nil {
		t.Error("a heartbeat without its annotation is read")
	}

	held := &coordinationv1.Lease{}
	claim(held, Owner{"n1", "e"}, "", Move{VIP: "10.0.0.1", To: Owner{"n1", "e"}, Reason: "nobody held it"}, at)
	claim(held, Owner{"n2", "f"}, "n1", Move{VIP: "10.0.0.1", To: Owner{"n2", "f"}, Reason: "node n1 answers nobody"}, metav1.NewMicroTime(at.Add(time.Minute)))
	if got, want := ReadClaim(held, nil), (Holding{Owner{"n2", "f"}, at.Add(time.Minute), "n1", "node n1 answers nobody"}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}
