// What the control plane's programs and their users identify themselves with.
//
// This file owns the files below DIR that are written once, before anything starts: the CA and
// the server's certificate, the key for service account tokens, the static tokens, the
// kubeconfigs and the audit policy.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientapi "k8s.io/client-go/tools/clientcmd/api"
)

// The users of the static token file. All are in system:masters; that they are different users
// is what lets the audit log tell them from the service accounts under test.
const (
	userAdmin             = "admin"
	userControllerManager = "system:kube-controller-manager"
	userStandIn           = "stand-in"
)

// auditPolicy: bodies of what service accounts do (the operator under test is one); bodies of
// everyone's writes to the kinds that an operator is judged by, so that each state that it met is
// known; a line for each other write of the admin; nothing else of the control plane's own traffic.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
omitManagedFields: true
rules:
- level: RequestResponse
  userGroups: ["system:serviceaccounts"]
- level: RequestResponse
  verbs: [create, update, patch, delete]
  resources:
  - group: dittofs.dittofs.com
  - group: apps
    resources: [statefulsets, statefulsets/status]
  - group: ""
    resources: [services, services/status, configmaps, secrets]
- level: Metadata
  users: ["admin"]
  verbs: [create, update, patch, delete, deletecollection]
- level: None
`

// files are the paths below DIR.
type files struct {
	dir string
}

func (f files) path(name string) string { return filepath.Join(f.dir, name) }

func (f files) ca() string                          { return f.path("ca.pem") }
func (f files) serverCertificate() string           { return f.path("apiserver.pem") }
func (f files) serverKey() string                   { return f.path("apiserver.key") }
func (f files) serviceAccountKey() string           { return f.path("service-account.key") }
func (f files) tokens() string                      { return f.path("tokens.csv") }
func (f files) auditPolicy() string                 { return f.path("audit-policy.yaml") }
func (f files) auditLog() string                    { return f.path("audit.log") }
func (f files) adminKubeconfig() string             { return f.path("admin.kubeconfig") }
func (f files) controllerManagerKubeconfig() string { return f.path("controller-manager.kubeconfig") }

// credentials are what the rest of this program needs to know of them.
type credentials struct {
	adminToken   string
	standInToken string
}

// writeCredentials makes all of them anew.
func writeCredentials(f files, server string) (credentials, error) {
	if err := writeCertificates(f); err != nil {
		return credentials{}, fmt.Errorf("certificates: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return credentials{}, fmt.Errorf("service account key: %w", err)
	}
	if err := writeKey(f.serviceAccountKey(), key); err != nil {
		return credentials{}, fmt.Errorf("service account key: %w", err)
	}
	tokens := map[string]string{}
	var table []byte
	for _, user := range []string{userAdmin, userControllerManager, userStandIn} {
		secret := make([]byte, 16)
		if _, err := rand.Read(secret); err != nil {
			return credentials{}, fmt.Errorf("tokens: %w", err)
		}
		tokens[user] = hex.EncodeToString(secret)
		table = fmt.Appendf(table, "%s,%s,%s,system:masters\n", tokens[user], user, user)
	}
	for path, data := range map[string][]byte{f.tokens(): table, f.auditPolicy(): []byte(auditPolicy)} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			return credentials{}, err
		}
	}
	for path, user := range map[string]string{
		f.adminKubeconfig():             userAdmin,
		f.controllerManagerKubeconfig(): userControllerManager,
	} {
		if err := writeKubeconfig(path, server, f.ca(), user, tokens[user]); err != nil {
			return credentials{}, fmt.Errorf("kubeconfig of %s: %w", user, err)
		}
	}
	return credentials{adminToken: tokens[userAdmin], standInToken: tokens[userStandIn]}, nil
}

// writeCertificates makes a CA and a certificate of the server signed by it. The server's own
// self-signed one would do for Go; stricter clients refuse a CA that serves.
func writeCertificates(f files) error {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	ca := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "controlplane-ca"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().AddDate(1, 0, 0),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		return err
	}
	serverKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	server := &x509.Certificate{
		SerialNumber: big.NewInt(2),
		Subject:      pkix.Name{CommonName: "kube-apiserver"},
		NotBefore:    ca.NotBefore,
		NotAfter:     ca.NotAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1), net.IPv4(10, 96, 0, 1)},
		DNSNames: []string{
			"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
			"kubernetes.default.svc.cluster.local",
		},
	}
	serverDER, err := x509.CreateCertificate(rand.Reader, server, ca, serverKey.Public(), caKey)
	if err != nil {
		return err
	}
	if err := writePEM(f.ca(), "CERTIFICATE", caDER); err != nil {
		return err
	}
	if err := writePEM(f.serverCertificate(), "CERTIFICATE", serverDER); err != nil {
		return err
	}
	return writeKey(f.serverKey(), serverKey)
}

func writeKey(path string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return writePEM(path, "EC PRIVATE KEY", der)
}

func writePEM(path, kind string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

func writeKubeconfig(path, server, caPath, user, token string) error {
	ca, err := os.ReadFile(caPath)
	if err != nil {
		return err
	}
	config := clientapi.NewConfig()
	config.Clusters["controlplane"] = &clientapi.Cluster{Server: server, CertificateAuthorityData: ca}
	config.AuthInfos[user] = &clientapi.AuthInfo{Token: token}
	config.Contexts[user] = &clientapi.Context{Cluster: "controlplane", AuthInfo: user, Namespace: "default"}
	config.CurrentContext = user
	return clientcmd.WriteToFile(*config, path)
}
