// The stand-in for the cloud's load balancers.
//
// This file owns the addresses of Services of type LoadBalancer (one each, never given twice,
// none of them reachable) and the cloud's cleanup finalizer. It writes a Service's status and
// that finalizer, nothing else.
package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
)

// cleanupFinalizer is the one of Kubernetes' own service controller.
const cleanupFinalizer = "service.kubernetes.io/load-balancer-cleanup"

// loadBalancerSettings are what POST /loadbalancer changes.
type loadBalancerSettings struct {
	// Finalizer: Services of type LoadBalancer are given the cleanup finalizer.
	Finalizer bool `json:"finalizer"`
	// Hold: the cleanup finalizer is not removed.
	Hold bool `json:"hold"`
	// Assign: Services without an address are given one.
	Assign bool `json:"assign"`
}

// syncService makes one Service as the cloud would have it.
func (r *standInRun) syncService(ctx context.Context, key string) (time.Duration, error) {
	namespace, name, err := cache.SplitMetaNamespaceKey(key)
	if err != nil {
		return 0, err
	}
	service, err := r.informers.Core().V1().Services().Lister().Services(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	} else if err != nil {
		return 0, err
	}
	settings := r.loadBalancers.of(namespace)
	wanted := service.Spec.Type == core.ServiceTypeLoadBalancer && service.DeletionTimestamp == nil
	guarded := slices.Contains(service.Finalizers, cleanupFinalizer)
	services := r.client.CoreV1().Services(namespace)

	if wanted && settings.Finalizer && !guarded || !wanted && guarded && !settings.Hold {
		changed := service.DeepCopy()
		if guarded {
			changed.Finalizers = slices.DeleteFunc(changed.Finalizers, func(f string) bool { return f == cleanupFinalizer })
		} else {
			changed.Finalizers = append(changed.Finalizers, cleanupFinalizer)
		}
		_, err := services.Update(ctx, changed, metav1.UpdateOptions{})
		return 0, ignoreMissing(err) // its event brings us back
	}

	assigned := len(service.Status.LoadBalancer.Ingress) > 0
	changed := service.DeepCopy()
	switch {
	case wanted && settings.Assign && !assigned:
		mode := core.LoadBalancerIPModeVIP
		changed.Status.LoadBalancer.Ingress = []core.LoadBalancerIngress{{IP: r.addresses.of(service.UID), IPMode: &mode}}
	case service.Spec.Type != core.ServiceTypeLoadBalancer && assigned:
		changed.Status.LoadBalancer = core.LoadBalancerStatus{}
		r.addresses.release(service.UID)
	default:
		return 0, nil
	}
	_, err = services.UpdateStatus(ctx, changed, metav1.UpdateOptions{})
	return 0, ignoreMissing(err)
}

// addresses are given by a Service's uid.
type addresses struct {
	mu    sync.Mutex
	given map[types.UID]string
	next  int
}

func newAddresses() *addresses { return &addresses{given: map[types.UID]string{}} }

func (a *addresses) of(uid types.UID) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	address, ok := a.given[uid]
	if !ok {
		address = nthAddress(a.next)
		a.next++
		a.given[uid] = address
	}
	return address
}

func (a *addresses) release(uid types.UID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.given, uid)
}

// nthAddress counts through two of the documentation's networks, then through a private one.
func nthAddress(n int) string {
	const hosts = 254
	switch {
	case n < hosts:
		return fmt.Sprintf("198.51.100.%d", n+1)
	case n < 2*hosts:
		return fmt.Sprintf("203.0.113.%d", n-hosts+1)
	default:
		n -= 2 * hosts
		return fmt.Sprintf("10.%d.%d.%d", 128+n/hosts/256%128, n/hosts%256, n%hosts+1)
	}
}

// ignoreMissing: an object that is gone needs nothing any more.
func ignoreMissing(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
