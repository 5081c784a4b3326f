package controller

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/fairlead/fairlead/pkg/source"
)

// ConfigMapSource says where ConfigMaps that map addresses are: one by its name, or, where that is empty, those of a namespace
// that a selector matches.
type ConfigMapSource struct {
	Namespace, Name string
	Selector        labels.Selector
}

// matches reports whether a ConfigMap is one of the source's.
func (s ConfigMapSource) matches(cm *corev1.ConfigMap) bool {
	if s.Name != "" {
		return cm.Namespace == s.Namespace && cm.Name == s.Name
	}
	return cm.Namespace == s.Namespace && s.Selector.Matches(labels.Set(cm.Labels))
}

// mayHave reports whether a ConfigMap of a name may be one of the source's.
func (s ConfigMapSource) mayHave(key asker) bool {
	return s.Namespace == key.Namespace && (s.Name == "" || s.Name == key.Name)
}

// String is how the flags have it.
func (s ConfigMapSource) String() string {
	if s.Name != "" {
		return s.Namespace + "/" + s.Name
	}
	return s.Selector.String() + " in " + s.Namespace
}

// configMaps knows the ConfigMaps of all sources, and which Services and addresses they name.
type configMaps struct {
	sources   []ConfigMapSource
	factories []informers.SharedInformerFactory
	indexers  []cache.Indexer
	synced    []cache.InformerSynced

	mu        sync.Mutex
	services  map[asker]map[asker]bool      // by Service: the ConfigMaps that name it
	addresses map[netip.Addr]map[asker]bool // by address: the ConfigMaps that map it
	told      map[asker][]string            // by ConfigMap: the problems that it was told of
	problems  map[string]map[asker]string   // by VIP and ConfigMap
}

// newConfigMaps makes an informer for each source, which calls changed with what it sees.
func newConfigMaps(core kubernetes.Interface, sources []ConfigMapSource, handler cache.ResourceEventHandler) (*configMaps, error) {
	m := &configMaps{
		sources: sources, services: map[asker]map[asker]bool{}, addresses: map[netip.Addr]map[asker]bool{},
		told: map[asker][]string{}, problems: map[string]map[asker]string{},
	}
	for _, s := range sources {
		factory := informers.NewSharedInformerFactoryWithOptions(core, 0, informers.WithNamespace(s.Namespace), informers.WithTransform(trim),
			informers.WithTweakListOptions(func(o *metav1.ListOptions) {
				if s.Name != "" {
					o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, s.Name).String()
				} else {
					o.LabelSelector = s.Selector.String()
				}
			}))
		informer := factory.Core().V1().ConfigMaps().Informer()
		err := informer.SetWatchErrorHandlerWithContext(func(ctx context.Context, r *cache.Reflector, err error) {
			if apierrors.IsForbidden(err) {
				err = fmt.Errorf("%w: bind ClusterRole fairlead-configmaps to this program in namespace %s", err, s.Namespace)
			}
			cache.DefaultWatchErrorHandler(ctx, r, err)
		})
		if err != nil {
			return nil, err
		}
		registration, err := informer.AddEventHandler(handler)
		if err != nil {
			return nil, err
		}
		m.factories, m.indexers = append(m.factories, factory), append(m.indexers, informer.GetIndexer())
		m.synced = append(m.synced, registration.HasSynced)
	}
	return m, nil
}

// start begins to watch, and calls filled once everything that exists is known. It does not wait for that: without the right to
// read a ConfigMap all else goes on.
func (m *configMaps) start(ctx context.Context, filled func()) (wait func()) {
	var group sync.WaitGroup
	for _, factory := range m.factories {
		factory.StartWithContext(ctx)
	}
	group.Go(func() {
		if cache.WaitForCacheSync(ctx.Done(), m.synced...) {
			filled()
		}
	})
	return func() {
		group.Wait()
		for _, factory := range m.factories {
			factory.Shutdown()
		}
	}
}

// get is a ConfigMap, nil if there is none of that name in any source. known is false while a source that may have it has not
// been listed.
func (m *configMaps) get(key asker) (cm *corev1.ConfigMap, known bool) {
	for i, indexer := range m.indexers {
		if cm, ok := fromIndex[*corev1.ConfigMap](indexer)(key.String()); ok && m.sources[i].matches(cm) {
			return cm, true
		}
	}
	for i, s := range m.sources {
		if s.mayHave(key) && !m.synced[i]() {
			return nil, false
		}
	}
	return nil, true
}

// confirm reads a ConfigMap that the cache lacks, if it is of a source. nil: there is none.
func (m *configMaps) confirm(ctx context.Context, core kubernetes.Interface, key asker) (*corev1.ConfigMap, error) {
	if !slices.ContainsFunc(m.sources, func(s ConfigMapSource) bool { return s.mayHave(key) }) {
		return nil, nil
	}
	cm, err := core.CoreV1().ConfigMaps(key.Namespace).Get(ctx, key.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, err
	case !slices.ContainsFunc(m.sources, func(s ConfigMapSource) bool { return s.matches(cm) }):
		return nil, nil
	}
	return cm, nil
}

// link records which Services and addresses a ConfigMap names.
func (m *configMaps) link(key asker, mappings []source.Mapping) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unlink(key)
	for _, mapping := range mappings {
		addTo(m.addresses, mapping.Addr, key)
		for _, target := range mapping.Targets {
			addTo(m.services, target.Service, key)
		}
	}
}

func addTo[K comparable](index map[K]map[asker]bool, at K, key asker) {
	if index[at] == nil {
		index[at] = map[asker]bool{}
	}
	index[at][key] = true
}

func (m *configMaps) unlink(key asker) {
	for at := range m.services {
		if delete(m.services[at], key); len(m.services[at]) == 0 {
			delete(m.services, at)
		}
	}
	for at := range m.addresses {
		if delete(m.addresses[at], key); len(m.addresses[at]) == 0 {
			delete(m.addresses, at)
		}
	}
}

// forget drops a ConfigMap that is gone.
func (m *configMaps) forget(key asker) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unlink(key)
	delete(m.told, key)
}

// naming are the ConfigMaps that name a Service.
func (m *configMaps) naming(service asker) []asker {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Keys(m.services[service]))
}

// mapping are the ConfigMaps that map an address.
func (m *configMaps) mapping(addr netip.Addr) []asker {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Keys(m.addresses[addr]))
}

// news records the problems of a ConfigMap and returns those that it was not told of.
func (m *configMaps) news(key asker, problems []string) (fresh []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, text := range problems {
		if !slices.Contains(m.told[key], text) {
			fresh = append(fresh, text)
		}
	}
	m.told[key] = problems
	return fresh
}

// count is how many problems all ConfigMaps have.
func (m *configMaps) count() (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, problems := range m.told {
		n += len(problems)
	}
	return n
}

// problemsOf records the problems that a ConfigMap has with a VIP, and returns those of all ConfigMaps.
func (m *configMaps) problemsOf(vip string, key asker, problems []string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.problems[vip] == nil {
		m.problems[vip] = map[asker]string{}
	}
	m.problems[vip][key] = strings.Join(problems, "; ")
	if len(problems) == 0 {
		delete(m.problems[vip], key)
	}
	var all []string
	for _, key := range slices.SortedFunc(maps.Keys(m.problems[vip]), func(a, b asker) int { return strings.Compare(a.String(), b.String()) }) {
		all = append(all, "ConfigMap "+key.String()+": "+m.problems[vip][key])
	}
	if len(all) == 0 {
		delete(m.problems, vip)
	}
	return strings.Join(all, "; ")
}
