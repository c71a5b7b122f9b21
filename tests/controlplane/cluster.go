// The three programs of the control plane, as a whole.
//
// This file owns their flags, the order in which they start, when each counts as ready, and
// stopping and starting them again while the cluster is in use. The ports and files of a cluster
// stay the same for its whole life.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"k8s.io/client-go/rest"
)

// startTimeout is how long one program may take to become ready, on a machine busy with tests.
const startTimeout = 90 * time.Second

// controllers of the controller manager. Left out: those that a missing kubelet, cloud or
// scheduler would make lie (node lifecycle, taint eviction, attach/detach, expander), and those
// that nothing here has a use for.
var controllers = []string{
	"clusterrole-aggregation-controller",
	"cronjob-controller",
	"daemonset-controller",
	"deployment-controller",
	"disruption-controller",
	"endpoints-controller",
	"endpointslice-controller",
	"endpointslice-mirroring-controller",
	"ephemeral-volume-controller",
	"garbage-collector-controller",
	"job-controller",
	"namespace-controller",
	"persistentvolume-binder-controller",
	"persistentvolume-protection-controller",
	"persistentvolumeclaim-protection-controller",
	"pod-garbage-collector-controller",
	"replicaset-controller",
	"resourcequota-controller",
	"root-ca-certificate-publisher-controller",
	"serviceaccount-controller",
	"serviceaccount-token-controller",
	"statefulset-controller",
	"ttl-after-finished-controller",
	"validatingadmissionpolicy-status-controller",
}

// cluster is one control plane below one directory.
type cluster struct {
	files
	credentials
	etcdPort, etcdPeerPort, serverPort int
	// failed receives the first unexpected end of a program.
	failed chan error

	// mu is held for the whole of a start or a stop, so that these follow one another.
	mu                sync.Mutex
	etcd              *process
	apiServer         *process
	controllerManager *process
	// ended: nothing is started any more.
	ended bool
}

func newCluster(dir string) (*cluster, error) {
	c := &cluster{files: files{dir: dir}, failed: make(chan error, 1)}
	// Its keys would not fit what is stored there; and that cluster may still run.
	if _, err := os.Stat(c.path("etcd")); err == nil {
		return nil, fmt.Errorf("%s was another cluster's: take a new directory", dir)
	}
	for _, port := range []*int{&c.etcdPort, &c.etcdPeerPort, &c.serverPort} {
		var err error
		if *port, err = reservePort(); err != nil {
			return nil, err
		}
	}
	var err error
	c.credentials, err = writeCredentials(c.files, c.server())
	return c, err
}

func (c *cluster) server() string { return fmt.Sprintf("https://127.0.0.1:%d", c.serverPort) }

// restConfig is the stand-in's way in: unthrottled, and by no proxy.
func (c *cluster) restConfig() *rest.Config {
	return &rest.Config{
		Host:            c.server(),
		BearerToken:     c.standInToken,
		TLSClientConfig: rest.TLSClientConfig{CAFile: c.ca()},
		QPS:             -1,
		Proxy:           http.ProxyURL(nil),
		UserAgent:       userStandIn,
	}
}

// start runs a program unless the cluster has ended. The caller holds mu.
func (c *cluster) start(name string, args []string) (*process, error) {
	if c.ended {
		return nil, fmt.Errorf("start %s: the cluster has ended", name)
	}
	return startProcess(c.dir, name, args, func(p *process) {
		select {
		case c.failed <- fmt.Errorf("%s ended unexpectedly (%s); its log ends with:\n%s", p.name, p.cmd.ProcessState, p.tail()):
		default:
		}
	})
}

func (c *cluster) startEtcd(ctx context.Context) (err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	client := fmt.Sprintf("http://127.0.0.1:%d", c.etcdPort)
	peer := fmt.Sprintf("http://127.0.0.1:%d", c.etcdPeerPort)
	c.etcd, err = c.start("etcd", []string{
		"--name=etcd",
		"--data-dir=" + c.path("etcd"),
		"--listen-client-urls=" + client,
		"--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer,
		"--initial-advertise-peer-urls=" + peer,
		"--initial-cluster=etcd=" + peer,
		"--socket-reuse-port", "--socket-reuse-address",
		"--unsafe-no-fsync",
		// Its election among one takes a second otherwise.
		"--heartbeat-interval=20", "--election-timeout=200",
		"--log-level=warn",
	})
	if err != nil {
		return err
	}
	probe := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	return c.etcd.waitUntil(ctx, "ready", func(ctx context.Context) bool {
		return answersOK(ctx, probe, client+"/readyz", "")
	})
}

func (c *cluster) startAPIServer(ctx context.Context) (err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.apiServer != nil {
		return nil
	}
	ca, err := os.ReadFile(c.ca())
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	started, err := c.start("kube-apiserver", []string{
		fmt.Sprintf("--etcd-servers=http://127.0.0.1:%d", c.etcdPort),
		"--bind-address=127.0.0.1",
		fmt.Sprintf("--secure-port=%d", c.serverPort),
		"--permit-port-sharing", "--permit-address-sharing",
		// Of the documentation's addresses: only told to others, and there are none.
		"--advertise-address=192.0.2.1",
		"--endpoint-reconciler-type=none",
		"--cert-dir=" + c.path("apiserver"),
		"--tls-cert-file=" + c.serverCertificate(),
		"--tls-private-key-file=" + c.serverKey(),
		"--service-account-key-file=" + c.serviceAccountKey(),
		"--service-account-signing-key-file=" + c.serviceAccountKey(),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--token-auth-file=" + c.tokens(),
		"--authorization-mode=RBAC",
		"--service-cluster-ip-range=10.96.0.0/12",
		"--allow-privileged",
		"--disable-admission-plugins=ServiceAccount",
		"--audit-policy-file=" + c.auditPolicy(),
		"--audit-log-path=" + c.auditLog(),
		"--audit-log-maxsize=0",
		"--audit-log-mode=blocking-strict",
		"--etcd-count-metric-poll-period=0",
		"--profiling=false",
	})
	if err != nil {
		return err
	}
	c.apiServer = started
	probe := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: roots},
		DisableKeepAlives: true,
	}}
	err = started.waitUntil(ctx, "ready", func(ctx context.Context) bool {
		return answersOK(ctx, probe, c.server()+"/readyz", c.adminToken)
	})
	return err
}

func (c *cluster) startControllerManager(ctx context.Context) (err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.controllerManager != nil {
		return nil
	}
	c.controllerManager, err = c.start("kube-controller-manager", []string{
		"--kubeconfig=" + c.controllerManagerKubeconfig(),
		"--service-account-private-key-file=" + c.serviceAccountKey(),
		"--root-ca-file=" + c.ca(),
		"--use-service-account-credentials=false",
		"--leader-elect=false",
		"--secure-port=0",
		"--controllers=" + strings.Join(controllers, ","),
		"--kube-api-qps=200", "--kube-api-burst=400",
		"--concurrent-statefulset-syncs=20",
		"--concurrent-endpoint-syncs=10",
		"--concurrent-service-endpoint-syncs=10",
		"--profiling=false",
	})
	if err != nil {
		return err
	}
	// It serves nothing that could be asked; the garbage collector's caches are its last to fill.
	return c.controllerManager.waitUntil(ctx, "ready", func(context.Context) bool {
		return strings.Contains(c.controllerManager.output(), "Proceeding to collect garbage")
	})
}

// stopAPIServer ends it and waits; nothing happens if it is stopped already.
func (c *cluster) stopAPIServer(signal syscall.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.apiServer != nil {
		// Asked to end, it stops listening at once and then waits a minute for its clients' watches.
		c.apiServer.stop(signal, stopGrace)
		c.apiServer = nil
	}
}

// stopControllerManager ends it and waits; it tells whether it was running.
func (c *cluster) stopControllerManager(signal syscall.Signal) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.controllerManager == nil {
		return false
	}
	c.controllerManager.stop(signal, stopGrace)
	c.controllerManager = nil
	return true
}

// end ends all programs at once. Call it once, after the context of pending starts was cancelled.
func (c *cluster) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	var wait sync.WaitGroup
	for _, p := range []*process{c.controllerManager, c.apiServer, c.etcd} {
		if p != nil {
			wait.Go(func() { p.stop(syscall.SIGTERM, stopGrace) })
		}
	}
	wait.Wait()
}

// answersOK asks url with the bearer token, if any.
func answersOK(ctx context.Context, client *http.Client, url, token string) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := client.Do(request)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode == http.StatusOK
}
