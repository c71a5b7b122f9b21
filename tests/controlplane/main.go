// Command controlplane is a Kubernetes control plane in one file, for tests on a bare machine.
//
// This file owns the choice of the program: the first argument names one of the real programs
// (etcd, kube-apiserver, kube-controller-manager, kubectl), or `up`, which runs them together
// with a stand-in for what a cluster has and a bare machine lacks (kubelet, cloud, storage).
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
)

const usage = `usage: controlplane up --dir DIR [--manifest FILE]...
       controlplane etcd|kube-apiserver|kube-controller-manager|kubectl ARGS...`

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
	// The programs read os.Args themselves: give each what it would see under its own name.
	os.Args = os.Args[1:]
	switch os.Args[0] {
	case "etcd":
		etcdmain.Main(os.Args)
	case "kube-apiserver":
		os.Exit(cli.Run(apiserver.NewAPIServerCommand()))
	case "kube-controller-manager":
		os.Exit(cli.Run(controllermanager.NewControllerManagerCommand()))
	case "kubectl":
		runKubectl()
	case "up":
		os.Exit(up(os.Args[1:]))
	default:
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
}

// runKubectl keeps kubectl off the user's files: its discovery cache is keyed by address, and a
// port that an earlier cluster had would bring that cluster's kinds back.
func runKubectl() {
	if os.Getenv("KUBECACHEDIR") == "" {
		if config := kubeconfigOf(os.Args); config != "" {
			_ = os.Setenv("KUBECACHEDIR", filepath.Join(filepath.Dir(config), "kubectl-cache"))
		}
	}
	_ = os.Setenv("KUBECTL_KUBERC", "false")
	if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
		kubectlutil.CheckErr(err) // prints as kubectl does, and exits
	}
}

// kubeconfigOf finds the kubeconfig that kubectl was told to use, "" if it was not told one.
func kubeconfigOf(args []string) string {
	for i, arg := range args {
		if path, ok := strings.CutPrefix(arg, "--kubeconfig="); ok {
			return path
		}
		if arg == "--kubeconfig" && i+1 < len(args) {
			return args[i+1]
		}
	}
	return filepath.SplitList(os.Getenv("KUBECONFIG") + string(filepath.ListSeparator))[0]
}
