package controller

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/klog/v2"

	"github.com/fairlead/fairlead/pkg/kube"
)

// gossipKeyEvery is how often it is looked whether the Secret of the speakers' key is still there.
const gossipKeyEvery = time.Minute

// keepGossipKey makes the Secret of the speakers' key where there is none, until ctx ends. One that exists is never changed.
func (c *Controller) keepGossipKey(ctx context.Context, name types.NamespacedName) {
	wait.UntilWithContext(ctx, func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, itemTimeout)
		defer cancel()
		logger := klog.LoggerWithValues(klog.FromContext(ctx), "secret", name)
		made, err := c.makeGossipKey(ctx, name)
		if err != nil {
			logger.Error(err, "Cannot make sure that speakers have a key; without one dead speakers are noticed by their Leases only", "again", gossipKeyEvery)
		} else if made {
			logger.Info("Made a key for the speakers' gossip")
		}
	}, gossipKeyEvery)
}

func (c *Controller) makeGossipKey(ctx context.Context, name types.NamespacedName) (made bool, err error) {
	secrets := c.config.Core.CoreV1().Secrets(name.Namespace)
	if _, err := secrets.Get(ctx, name.Name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		return false, err
	}
	key := make([]byte, kube.GossipKeyBytes)
	_, _ = rand.Read(key) // it never fails (crypto/rand)
	_, err = secrets.Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: name.Namespace, Name: name.Name, Labels: map[string]string{
			"app.kubernetes.io/name": "fairlead", "app.kubernetes.io/component": "speaker",
		}},
		Data: map[string][]byte{kube.GossipKey: key},
	}, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("create Secret %s: %w", name, err)
	}
	return true, nil
}
