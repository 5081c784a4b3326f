package gossip

import (
	"testing"
	"time"
)

func TestProbesChangeAState(t *testing.T) {
	dead := func(since time.Duration, refused bool) State { return State{Dead: since, Refused: refused} }
	for _, test := range []struct {
		name    string
		results []outcome // one a second
		want    State
	}{
		{"an answer confirms life", []outcome{answered}, State{Alive: true}},
		{"a refusal is a verdict at once", []outcome{refused}, dead(1*time.Second, true)},
		{"silence is one, too", []outcome{silent}, dead(1*time.Second, false)},
		{"a verdict keeps its time", []outcome{silent, silent, silent}, dead(1*time.Second, false)},
		{"an answer ends it", []outcome{silent, answered}, State{Alive: true}},
		{"a machine may come up before its speaker", []outcome{silent, refused}, dead(1*time.Second, true)},
		{"a lost packet is no silent machine", []outcome{refused, silent, silent}, dead(1*time.Second, true)},
		{"refusals in between", []outcome{refused, silent, silent, refused, silent, silent}, dead(1*time.Second, true)},
		{"a machine that refused goes silent", []outcome{refused, silent, silent, silent}, dead(1*time.Second, false)},
		{"and refuses again", []outcome{refused, silent, silent, silent, refused}, dead(1*time.Second, true)},
		{"nobody else answers either", []outcome{unheard, silent}, State{Dead: 1 * time.Second, Alone: true}},
		{"its machine says that it is not cut off", []outcome{unheard, refused}, dead(1*time.Second, true)},
		{"nor is it if that is found out later", []outcome{silent, unheard}, dead(1*time.Second, false)},
		{"an answer ends that, too", []outcome{unheard, answered}, State{Alive: true}},
		{"who takes connections has more time", []outcome{hung}, State{Alive: true}},
		{"but not for ever", []outcome{hung, hung, hung}, dead(2*time.Second, false)},
		{"and an answer gives it anew", []outcome{hung, answered, hung}, State{Alive: true}},
		{"none has one that falls silent", []outcome{hung, silent}, dead(2*time.Second, false)},
		{"nor one that ended", []outcome{hung, refused}, dead(2*time.Second, true)},
		{"a second verdict has its own time", []outcome{silent, answered, refused}, dead(3*time.Second, true)},
	} {
		p := &peer{state: State{Alive: true}}
		for i, result := range test.results {
			p.state, _ = p.after(result, time.Duration(i+1)*time.Second)
		}
		if p.state != test.want {
			t.Errorf("%s: %+v, want %+v", test.name, p.state, test.want)
		}
	}
}
