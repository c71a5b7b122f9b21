// `controlplane up`: one cluster from start to end.
//
// This file owns the protocol with the process that runs it: exactly one line of JSON on stdout
// when everything is ready, diagnostics on stderr, an end when stdin reaches EOF, on SIGTERM and
// SIGINT or by the control API (exit status 0), and when a program fails (exit status 1).
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"k8s.io/klog/v2"
)

// announcement is the line on stdout.
type announcement struct {
	Kubeconfig string `json:"kubeconfig"`
	Server     string `json:"server"`
	CA         string `json:"ca"`
	AdminToken string `json:"admin_token"`
	AuditLog   string `json:"audit_log"`
	Control    string `json:"control"`
}

// errAsked ends a cluster whose user has had enough of it.
var errAsked = errors.New("asked to end")

type stringList []string

func (l *stringList) String() string     { return fmt.Sprint(*l) }
func (l *stringList) Set(s string) error { *l = append(*l, s); return nil }

// up runs a cluster and returns the exit status.
func up(args []string) int {
	var manifests stringList
	flags := flag.NewFlagSet("controlplane up", flag.ContinueOnError)
	dir := flags.String("dir", "", "directory for all files of the cluster; made if missing")
	flags.Var(&manifests, "manifest", "file to apply before the controller manager starts; may be repeated")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if *dir == "" || flags.NArg() > 0 {
		fmt.Fprintln(os.Stderr, usage)
		return 2
	}

	ctx, end := context.WithCancelCause(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		end(errAsked)
	}()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-signals
		end(errAsked)
	}()

	err := run(ctx, end, *dir, manifests)
	// A failure on the way to an end that was asked for is a consequence of it.
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	if err != nil && !errors.Is(err, errAsked) {
		fmt.Fprintln(os.Stderr, "controlplane:", err)
		return 1
	}
	return 0
}

// run brings the cluster up, announces it and returns when the context is done.
func run(ctx context.Context, end context.CancelCauseFunc, dir string, manifests []string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := logToFile(filepath.Join(dir, "stand-in.log")); err != nil {
		return err
	}
	cluster, err := newCluster(dir)
	if err != nil {
		return err
	}
	defer cluster.end()
	go func() {
		select {
		case err := <-cluster.failed:
			end(err)
		case <-ctx.Done():
		}
	}()

	if err := cluster.startEtcd(ctx); err != nil {
		return err
	}
	if err := cluster.startAPIServer(ctx); err != nil {
		return err
	}
	if err := applyManifests(ctx, cluster.restConfig(), manifests); err != nil {
		return err
	}
	standIn := newStandIn(cluster.restConfig())
	started := make(chan error, 1)
	go func() { started <- standIn.start(ctx) }()
	defer standIn.stop()
	if err := cluster.startControllerManager(ctx); err != nil {
		return err
	}
	if err := <-started; err != nil {
		return err
	}
	control, err := serveControl(ctx, func() { end(errAsked) }, cluster, standIn)
	if err != nil {
		return err
	}
	err = json.NewEncoder(os.Stdout).Encode(announcement{
		Kubeconfig: cluster.adminKubeconfig(),
		Server:     cluster.server(),
		CA:         cluster.ca(),
		AdminToken: cluster.adminToken,
		AuditLog:   cluster.auditLog(),
		Control:    control,
	})
	if err != nil {
		return fmt.Errorf("announce: %w", err)
	}
	<-ctx.Done()
	return nil
}

// logToFile sends what client-go has to say there: stdout and stderr are for our user.
func logToFile(path string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	klog.LogToStderr(false)
	klog.SetOutput(file)
	return nil
}
