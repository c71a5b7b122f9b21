package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	kubectl "k8s.io/kubectl/pkg/cmd"
	_ "k8s.io/client-go/informers"
	_ "k8s.io/client-go/kubernetes"
)

func main() {
	etcdmain.Main(os.Args)
	os.Exit(cli.Run(apiserver.NewAPIServerCommand()) + cli.Run(controllermanager.NewControllerManagerCommand()) + cli.Run(kubectl.NewDefaultKubectlCommand()))
}
