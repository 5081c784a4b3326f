package kube

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

// Of the Secret of gossip keys.
const (
	// GossipSecret is its name unless a flag says otherwise.
	GossipSecret = "fairlead-gossip"
	// GossipKey is the entry with the key that encrypts. Keys in other entries decrypt.
	GossipKey = "key"
	// GossipKeyBytes is the length of a key that is made here: AES-256.
	GossipKeyBytes = 32

	reasonBadGossipKey = "BadGossipKey"
)

// KeysConfig is of WatchKeys.
type KeysConfig struct {
	Client          kubernetes.Interface
	Namespace, Name string // of the Secret
	// Use takes the keys, the one that encrypts first.
	Use func(keys [][]byte) error
	// Recorder makes events about the Secret: record.EventRecorder does.
	Recorder interface {
		Event(object runtime.Object, kind, reason, message string)
	}
}

// WatchKeys gives the keys of a Secret to whom they are for, now and when they change, until the context ends. Keys that
// cannot be used are told of, in the log and by an event, and leave those before in use; so does the Secret's deletion.
func WatchKeys(ctx context.Context, config KeysConfig) error {
	logger := klog.LoggerWithValues(klog.FromContext(ctx), "secret", config.Namespace+"/"+config.Name)
	factory := informers.NewSharedInformerFactoryWithOptions(config.Client, 0, informers.WithNamespace(config.Namespace),
		informers.WithTweakListOptions(func(options *metav1.ListOptions) {
			options.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, config.Name).String()
		}), informers.WithTransform(StripManagedFields))
	use := func(object any) {
		secret, ok := object.(*corev1.Secret)
		if !ok {
			return // the informer is of Secrets
		}
		keys, err := gossipKeys(secret)
		if err == nil {
			err = config.Use(keys)
		}
		if err != nil {
			logger.Error(err, "Cannot use the gossip keys; those before stay in use")
			config.Recorder.Event(secret, corev1.EventTypeWarning, reasonBadGossipKey, err.Error())
			return
		}
		logger.V(2).Info("Uses gossip keys", "keys", len(keys))
	}
	_, err := factory.Core().V1().Secrets().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    use,
		UpdateFunc: func(_, now any) { use(now) },
		DeleteFunc: func(any) {
			logger.Info("The Secret of gossip keys was deleted; its keys stay in use until there is another")
		},
	})
	if err != nil {
		return fmt.Errorf("watch Secret %s/%s: %w", config.Namespace, config.Name, err)
	}
	factory.StartWithContext(ctx)
	<-ctx.Done()
	factory.Shutdown()
	return nil
}

// gossipKeys are the keys in a Secret: that of GossipKey and then, in the order of their entries' names, the others.
func gossipKeys(secret *corev1.Secret) ([][]byte, error) {
	entries := []string{GossipKey}
	for name := range secret.Data {
		if name != GossipKey {
			entries = append(entries, name)
		}
	}
	slices.SortFunc(entries[1:], strings.Compare)
	var keys [][]byte
	for _, name := range entries {
		key := secret.Data[name]
		if n := len(key); n != 16 && n != 24 && n != 32 {
			return nil, fmt.Errorf("entry %[3]q of Secret %[1]s/%[2]s has %[4]d bytes, and a key has 16, 24 or 32; write one by "+
				`kubectl -n %[1]s patch secret %[2]s -p '{"data":{"%[3]s":"'$(head -c 32 /dev/urandom | base64)'"}}'`,
				secret.Namespace, secret.Name, name, len(key))
		}
		keys = append(keys, key)
	}
	return keys, nil
}
