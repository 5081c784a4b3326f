package kube

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
)

// EventRecorder writes events about built-in and Fairlead objects in the background. They are core/v1 events and not
// events.k8s.io/v1: the recorder of the latter joins events of one reason whatever their text, and the text is what tells a
// user which address could not be had.
type EventRecorder struct {
	record.EventRecorder
	broadcaster record.EventBroadcaster
}

// NewEventRecorder starts a recorder whose events come from component, at host. It ends with ctx or Close.
func NewEventRecorder(ctx context.Context, client kubernetes.Interface, component, host string) (*EventRecorder, error) {
	known := runtime.NewScheme()
	if err := scheme.AddToScheme(known); err != nil {
		return nil, err
	}
	if err := v1alpha1.AddToScheme(known); err != nil {
		return nil, err
	}
	broadcaster := record.NewBroadcaster(record.WithContext(ctx))
	broadcaster.StartStructuredLogging(klog.Level(4))
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: client.CoreV1().Events("")})
	recorder := broadcaster.NewRecorder(known, corev1.EventSource{Component: component, Host: host})
	return &EventRecorder{EventRecorder: recorder, broadcaster: broadcaster}, nil
}

// Close stops taking events. Those not yet sent may be lost.
func (r *EventRecorder) Close() { r.broadcaster.Shutdown() }
