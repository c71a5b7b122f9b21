// The control API: what a test can do to its cluster besides using it.
//
// This file owns the HTTP routes and their JSON. Every request answers with JSON: what was asked
// for, or {"error": "…"} with status 400 (a bad request), 404 (no such pod), 409 (not while it is
// stopped, or not started) or 500.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// defaultUnready is how long a pod that was crashed is not ready.
const defaultUnready = 500 * time.Millisecond

// control serves one cluster.
type control struct {
	// ctx ends with the cluster; a request that starts a program is bound by it, not by the
	// patience of its client.
	ctx     context.Context
	end     func()
	cluster *cluster
	standIn *standIn
}

// statusError is an error with an HTTP status of its own.
type statusError struct {
	status int
	error
}

var errStopped = statusError{http.StatusConflict, errors.New("the API server is stopped")}

// serveControl listens on a port that the system chooses and returns the URL.
func serveControl(ctx context.Context, end func(), cluster *cluster, standIn *standIn) (string, error) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("control API: %w", err)
	}
	c := &control{ctx: ctx, end: end, cluster: cluster, standIn: standIn}
	mux := http.NewServeMux()
	for pattern, handle := range map[string]func(*http.Request) (any, error){
		"GET /pods/starts":               c.getStarts,
		"POST /pods/behavior":            c.postBehavior,
		"POST /pods/crash":               c.postCrash,
		"POST /loadbalancer":             c.postLoadBalancer,
		"POST /volumes":                  c.postVolumes,
		"POST /apiserver/stop":           c.stopAPIServer,
		"POST /apiserver/start":          c.startAPIServer,
		"POST /controller-manager/stop":  c.stopControllerManager,
		"POST /controller-manager/start": c.startControllerManager,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, request *http.Request) {
			answer(w)(handle(request))
		})
	}
	// The answer is sent before the end begins.
	mux.HandleFunc("/stop", func(w http.ResponseWriter, _ *http.Request) {
		answer(w)(done{true}, nil)
		_ = http.NewResponseController(w).Flush()
		c.end()
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(listener) }()
	return "http://" + listener.Addr().String(), nil
}

type done struct {
	OK bool `json:"ok"`
}

func answer(w http.ResponseWriter) func(any, error) {
	return func(body any, err error) {
		status := http.StatusOK
		if err != nil {
			status = http.StatusInternalServerError
			var known statusError
			if errors.As(err, &known) {
				status = known.status
			} else if apierrors.IsNotFound(err) {
				status = http.StatusNotFound
			}
			body = map[string]string{"error": err.Error()}
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(body)
	}
}

// read decodes the body, which may be empty; a field that we do not know is an error.
func read[T any](request *http.Request) (body T, err error) {
	decoder := json.NewDecoder(request.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&body); err != nil && !errors.Is(err, io.EOF) {
		return body, statusError{http.StatusBadRequest, err}
	}
	return body, nil
}

func (c *control) getStarts(request *http.Request) (any, error) {
	return c.standIn.starts.report(request.URL.Query().Get("namespace")), nil
}

func (c *control) postBehavior(request *http.Request) (any, error) {
	body, err := read[struct {
		Namespace     string `json:"namespace"`
		StatefulSet   string `json:"statefulset"`
		Mode          string `json:"mode"`
		ReadyDelayMS  *int   `json:"readyDelayMs"`
		DeleteDelayMS *int   `json:"deleteDelayMs"`
		OnlyNew       bool   `json:"onlyNew"`
	}](request)
	if err != nil {
		return nil, err
	}
	value := behavior{
		mode:        body.Mode,
		readyDelay:  milliseconds(body.ReadyDelayMS, defaultDelay),
		deleteDelay: milliseconds(body.DeleteDelayMS, defaultDelay),
		onlyNew:     body.OnlyNew,
		since:       time.Now(),
	}
	if value.mode == "" {
		value.mode = modeNormal
	}
	if err := c.standIn.behaviors.set(behaviorScope{body.Namespace, body.StatefulSet}, value); err != nil {
		return nil, statusError{http.StatusBadRequest, err}
	}
	if run := c.standIn.running(); run != nil {
		run.podQueue.addAll()
	}
	return done{true}, nil
}

func (c *control) postCrash(request *http.Request) (any, error) {
	body, err := read[struct {
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
		UnreadyMS *int   `json:"unreadyMs"`
	}](request)
	if err != nil {
		return nil, err
	}
	run := c.standIn.running()
	if run == nil {
		return nil, errStopped
	}
	ctx, cancel := context.WithTimeout(request.Context(), 10*time.Second)
	defer cancel()
	restarts, err := run.crashPod(ctx, body.Namespace, body.Name, milliseconds(body.UnreadyMS, defaultUnready))
	if err != nil {
		return nil, err
	}
	return map[string]int32{"restartCount": restarts}, nil
}

func (c *control) postLoadBalancer(request *http.Request) (any, error) {
	body, err := read[struct {
		Namespace string `json:"namespace"`
		Finalizer *bool  `json:"finalizer"`
		Hold      *bool  `json:"hold"`
		Assign    *bool  `json:"assign"`
	}](request)
	if err != nil {
		return nil, err
	}
	now := c.standIn.loadBalancers.change(body.Namespace, func(s *loadBalancerSettings) {
		assign(&s.Finalizer, body.Finalizer)
		assign(&s.Hold, body.Hold)
		assign(&s.Assign, body.Assign)
	})
	if run := c.standIn.running(); run != nil {
		run.serviceQueue.addAll()
	}
	return now, nil
}

func (c *control) postVolumes(request *http.Request) (any, error) {
	body, err := read[struct {
		Namespace  string  `json:"namespace"`
		ResizeHold *bool   `json:"resizeHold"`
		HoldAs     *string `json:"holdAs"`
		BindHold   *bool   `json:"bindHold"`
	}](request)
	if err != nil {
		return nil, err
	}
	now := c.standIn.volumes.change(body.Namespace, func(s *volumeSettings) {
		assign(&s.ResizeHold, body.ResizeHold)
		assign(&s.HoldAs, body.HoldAs)
		assign(&s.BindHold, body.BindHold)
	})
	if run := c.standIn.running(); run != nil {
		run.claimQueue.addAll()
	}
	return now, nil
}

// readSignal is TERM unless the body says KILL.
func readSignal(request *http.Request) (syscall.Signal, error) {
	body, err := read[struct {
		Signal string `json:"signal"`
	}](request)
	if err != nil {
		return 0, err
	}
	switch body.Signal {
	case "", "TERM":
		return syscall.SIGTERM, nil
	case "KILL":
		return syscall.SIGKILL, nil
	}
	return 0, statusError{http.StatusBadRequest, fmt.Errorf("signal %q is neither TERM nor KILL", body.Signal)}
}

func (c *control) stopAPIServer(request *http.Request) (any, error) {
	signal, err := readSignal(request)
	if err != nil {
		return nil, err
	}
	c.standIn.stop()
	c.cluster.stopAPIServer(signal)
	return done{true}, nil
}

// startAPIServer also restarts a controller manager that runs: its watches back off for up to
// half a minute after an outage, and tests have no such time.
func (c *control) startAPIServer(request *http.Request) (any, error) {
	body, err := read[struct {
		KeepControllerManager bool `json:"keepControllerManager"`
	}](request)
	if err != nil {
		return nil, err
	}
	if c.standIn.running() != nil {
		return done{true}, nil // it was not stopped
	}
	if err := c.cluster.startAPIServer(c.ctx); err != nil {
		return nil, err
	}
	if err := c.standIn.start(c.ctx); err != nil {
		return nil, err
	}
	if !body.KeepControllerManager && c.cluster.stopControllerManager(syscall.SIGKILL) {
		if err := c.cluster.startControllerManager(c.ctx); err != nil {
			return nil, err
		}
	}
	return done{true}, nil
}

func (c *control) stopControllerManager(request *http.Request) (any, error) {
	signal, err := readSignal(request)
	if err != nil {
		return nil, err
	}
	c.cluster.stopControllerManager(signal)
	return done{true}, nil
}

func (c *control) startControllerManager(*http.Request) (any, error) {
	if c.standIn.running() == nil {
		return nil, errStopped
	}
	if err := c.cluster.startControllerManager(c.ctx); err != nil {
		return nil, err
	}
	return done{true}, nil
}

func milliseconds(value *int, otherwise time.Duration) time.Duration {
	if value == nil {
		return otherwise
	}
	return time.Duration(*value) * time.Millisecond
}

// assign leaves the target as it is if nothing was given.
func assign[T any](target, value *T) {
	if value != nil {
		*target = *value
	}
}
