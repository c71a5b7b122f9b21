// The stand-in for kubelet, cloud and storage, as a whole.
//
// This file owns its runs against the API server (one from each start of the API server to its
// next stop), the shared informers and the work queues. What a run does is in node.go,
// loadbalancer.go and volumes.go; what outlives a run (behaviours, pod starts, addresses) is in
// the fields of standIn.
package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
)

// standIn is what outlives a run.
type standIn struct {
	config        *rest.Config
	behaviors     *behaviors
	starts        *podStarts
	pods          *podMemory
	loadBalancers *settings[loadBalancerSettings]
	addresses     *addresses
	volumes       *settings[volumeSettings]

	mu      sync.Mutex
	current *standInRun
}

func newStandIn(config *rest.Config) *standIn {
	return &standIn{
		config:        config,
		behaviors:     newBehaviors(),
		starts:        newPodStarts(),
		pods:          newPodMemory(),
		loadBalancers: newSettings(loadBalancerSettings{Assign: true}),
		addresses:     newAddresses(),
		volumes:       newSettings(volumeSettings{}),
	}
}

// standInRun is one run; its fields are safe for use by several goroutines.
type standInRun struct {
	*standIn
	client    kubernetes.Interface
	informers informers.SharedInformerFactory
	cancel    context.CancelFunc
	done      sync.WaitGroup

	podQueue, serviceQueue, claimQueue, volumeQueue *queue
}

// start begins a run and returns when its caches are filled.
func (s *standIn) start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != nil {
		return nil
	}
	config := rest.CopyConfig(s.config)
	config.ContentType = "application/vnd.kubernetes.protobuf"
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("stand-in: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	run := &standInRun{
		standIn:   s,
		client:    client,
		informers: informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(dropManagedFields)),
		cancel:    cancel,
	}
	if err := run.begin(ctx); err != nil {
		cancel()
		return fmt.Errorf("stand-in: %w", err)
	}
	s.current = run
	return nil
}

// stop ends the run, if there is one, and waits for it.
func (s *standIn) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil {
		return
	}
	s.current.cancel()
	s.current.done.Wait()
	s.current.informers.Shutdown()
	s.current = nil
}

// running is the present run, nil while the API server is stopped.
func (s *standIn) running() *standInRun {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}

func (r *standInRun) begin(ctx context.Context) error {
	if err := r.ensureNode(ctx); err != nil {
		return err
	}
	if err := r.ensureStorageClasses(ctx); err != nil {
		return err
	}
	core := r.informers.Core().V1()
	r.podQueue = newQueue("pod", 20, r.syncPod, core.Pods().Informer())
	r.serviceQueue = newQueue("service", 4, r.syncService, core.Services().Informer())
	r.claimQueue = newQueue("claim", 8, r.syncClaim, core.PersistentVolumeClaims().Informer())
	r.volumeQueue = newQueue("volume", 4, r.syncVolume, core.PersistentVolumes().Informer())
	queues := []*queue{r.podQueue, r.serviceQueue, r.claimQueue, r.volumeQueue}
	r.informers.Storage().V1().StorageClasses().Informer()
	r.informers.Start(ctx.Done())
	for kind, synced := range r.informers.WaitForCacheSync(ctx.Done()) {
		if !synced {
			return fmt.Errorf("cache of %s not filled: %w", kind, ctx.Err())
		}
	}
	for _, queue := range queues {
		queue.run(ctx, &r.done)
	}
	return nil
}

func dropManagedFields(object any) (any, error) {
	if accessor, err := meta.Accessor(object); err == nil {
		accessor.SetManagedFields(nil)
	}
	return object, nil
}

// queue calls sync for each key of an informer whose object changed, one call a key at a time.
// sync tells after what time it wants to be called again (0: not of itself); after an error it
// is called again soon.
type queue struct {
	name    string
	workers int
	sync    func(ctx context.Context, key string) (time.Duration, error)
	work    workqueue.TypedRateLimitingInterface[string]
	source  cache.SharedIndexInformer
}

func newQueue(name string, workers int, sync func(context.Context, string) (time.Duration, error), source cache.SharedIndexInformer) *queue {
	limiter := workqueue.NewTypedItemExponentialFailureRateLimiter[string](5*time.Millisecond, time.Second)
	q := &queue{name: name, workers: workers, sync: sync, source: source, work: workqueue.NewTypedRateLimitingQueue(limiter)}
	_, _ = source.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    q.add,
		UpdateFunc: func(_, object any) { q.add(object) },
		DeleteFunc: q.add,
	})
	return q
}

func (q *queue) add(object any) {
	if key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(object); err == nil {
		q.work.Add(key)
	}
}

// addAll is for a change of what the user wants of all objects.
func (q *queue) addAll() {
	for _, key := range q.source.GetStore().ListKeys() {
		q.work.Add(key)
	}
}

func (q *queue) run(ctx context.Context, done *sync.WaitGroup) {
	done.Go(func() {
		<-ctx.Done()
		q.work.ShutDown()
	})
	for range q.workers {
		done.Go(func() {
			for {
				key, shutdown := q.work.Get()
				if shutdown {
					return
				}
				after, err := q.sync(ctx, key)
				switch {
				case err != nil:
					klog.InfoS("will try again", "kind", q.name, "key", key, "err", err)
					q.work.AddRateLimited(key)
				case after > 0:
					q.work.Forget(key)
					q.work.AddAfter(key, after)
				default:
					q.work.Forget(key)
				}
				q.work.Done(key)
			}
		})
	}
}

// settings are values for all namespaces, with others for some.
type settings[T any] struct {
	mu          sync.Mutex
	all         T
	byNamespace map[string]T
}

func newSettings[T any](all T) *settings[T] {
	return &settings[T]{all: all, byNamespace: map[string]T{}}
}

func (s *settings[T]) of(namespace string) T {
	s.mu.Lock()
	defer s.mu.Unlock()
	if value, ok := s.byNamespace[namespace]; ok {
		return value
	}
	return s.all
}

// change alters the values of one namespace, which then no longer follow those of all; or with
// an empty namespace those of all.
func (s *settings[T]) change(namespace string, alter func(*T)) T {
	s.mu.Lock()
	defer s.mu.Unlock()
	if namespace == "" {
		alter(&s.all)
		return s.all
	}
	value, ok := s.byNamespace[namespace]
	if !ok {
		value = s.all
	}
	alter(&value)
	s.byNamespace[namespace] = value
	return value
}
