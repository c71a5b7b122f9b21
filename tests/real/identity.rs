//! LDAP, Kerberos, the machine account and the token of the metrics, as far as the objects go.

use dittofs_testbed::cluster::resources;
use serde_json::{Value, json};

use crate::look::{container, hash, uid};
use crate::support::Bed;

/// 0440, as JSON has it.
const SECRET_MODE: i64 = 0o440;

fn spec() -> Value {
    json!({
        "adapterDiscovery": {"pollingInterval": "1s"},
        "metrics": {"enabled": true, "bearerTokenSecret": {"name": "scrape", "key": "value"}},
        "identity": {
            "ldap": {
                "enabled": true, "url": "ldaps://dc.example.com:636", "baseDN": "DC=example,DC=com",
                "bindDN": "CN=files,DC=example,DC=com", "bindPasswordSecretRef": {"name": "ad", "key": "bind"},
                "caSecretRef": {"name": "ad", "key": "bundle"},
            },
            "kerberos": {
                "enabled": true, "servicePrincipal": "nfs/files.example.com", "realm": "EXAMPLE.COM",
                "keytabSecretRef": {"name": "krb", "key": "nfs"},
                "krb5ConfSecretRef": {"name": "krb", "key": "conf"},
                "machineAccount": {
                    "enabled": true, "accountName": "FILES$", "dcAddress": ["dc.example.com"],
                    "secretRef": {"name": "machine", "key": "secret"},
                    "keytabSecretRef": {"name": "machine", "key": "keys"},
                },
            },
        },
    })
}

const SECRETS: [(&str, &[(&str, &str)]); 4] = [
    (
        "ad",
        &[("bind", "bind-password-of-the-test"), ("bundle", "certificates-of-the-test"), ("unused", "nobody-reads")],
    ),
    ("krb", &[("nfs", "keytab-of-the-nfs-service"), ("conf", "krb5-conf-of-the-test")]),
    ("machine", &[("secret", "machine-password-of-the-test"), ("keys", "keytab-of-the-machine")]),
    ("scrape", &[("value", "bearer-token-of-the-test")]),
];

/// Volumes that come from a Secret: mount path, Secret, key, file.
const FILES: [(&str, &str, &str, &str); 5] = [
    ("/metrics-token", "scrape", "value", "token"),
    ("/ldap-ca", "ad", "bundle", "ca.crt"),
    ("/kerberos", "krb", "nfs", "dittofs.keytab"),
    ("/kerberos-krb5", "krb", "conf", "krb5.conf"),
    ("/kerberos-machine", "machine", "keys", "machine.keytab"),
];

/// The pod has each Secret where the server looks for it, and for nobody else.
fn assert_wired(pod: &Value) {
    let dittofs = container(&pod["spec"]);
    for (variable, secret, key) in
        [("DITTOFS_LDAP_BIND_PASSWORD", "ad", "bind"), ("DITTOFS_KERBEROS_MACHINE_ACCOUNT_SECRET", "machine", "secret")]
    {
        let mut env = dittofs["env"].as_array().expect("variables").iter();
        let found = env.find(|found| found["name"] == variable).unwrap_or_else(|| panic!("no {variable}"));
        assert_eq!(found["valueFrom"]["secretKeyRef"], json!({"name": secret, "key": key}));
    }
    for (path, secret, key, file) in FILES {
        let mut mounts = dittofs["volumeMounts"].as_array().expect("mounts").iter();
        let mount = mounts.find(|mount| mount["mountPath"] == path).unwrap_or_else(|| panic!("nothing at {path}"));
        assert_eq!(mount["readOnly"], true, "{path}");
        let mut volumes = pod["spec"]["volumes"].as_array().expect("volumes").iter();
        let volume = volumes.find(|volume| volume["name"] == mount["name"]).expect("a volume of the mount's name");
        assert_eq!(
            volume["secret"],
            json!({"secretName": secret, "defaultMode": SECRET_MODE, "items": [{"key": key, "path": file}]}),
            "{path}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_and_kerberos_reach_the_pod_of_a_restricted_namespace_and_no_secret_the_config() {
    let bed = Bed::new("directory").await;
    let namespace = bed.world.namespace();
    let restricted = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    namespace.cluster().patch(resources::NAMESPACES, "", namespace.name(), &restricted).await.expect("a label");

    bed.world.apply_server("files", &spec()).await.expect("the server is accepted");
    for (secret, data) in SECRETS {
        bed.wait_message("files", "ConfigReady", "False", &format!("Secret {secret} ")).await;
        let set = namespace.get(resources::STATEFUL_SETS, "files").await.expect("an answer");
        assert!(set.is_none(), "a StatefulSet before Secret {secret} is there");
        namespace.secret(secret, data).await.expect("a Secret");
    }
    bed.world.wait_ready("files").await.expect("ready with all of them");
    let pod = bed.pod("files").await;
    assert_wired(&pod);
    let config = bed.get(resources::CONFIG_MAPS, "files-config").await;
    let text = config["data"]["config.yaml"].as_str().expect("the configuration");
    for told in [
        "url: \"ldaps://dc.example.com:636\"",
        "ca_cert_file: \"/ldap-ca/ca.crt\"",
        "keytab_path: \"/kerberos/dittofs.keytab\"",
        "krb5_conf: \"/kerberos-krb5/krb5.conf\"",
        "keytab_path: \"/kerberos-machine/machine.keytab\"",
        "token_file: \"/metrics-token/token\"",
    ] {
        assert!(text.contains(told), "{told} is missing in:\n{text}");
    }
    // That no secret value is in it, or anywhere else, is judged at the end: each is a canary.

    // A key that nobody names does nothing; each that is named rolls the pod once.
    let unused = json!({"stringData": {"unused": "still-nobody-reads"}});
    namespace.patch(resources::SECRETS, "ad", &unused).await.expect("a change");
    let mut before = bed.set("files").await;
    let mut starts = 1;
    for (secret, key) in [("ad", "bind"), ("krb", "nfs"), ("machine", "keys"), ("scrape", "value")] {
        let change = json!({"stringData": {key: format!("another-value-of-{secret}-{key}")}});
        namespace.patch(resources::SECRETS, secret, &change).await.expect("a change");
        starts += 1;
        bed.wait_starts(starts).await;
        bed.world.wait_ready("files").await.expect("ready with the new value");
        let after = bed.set("files").await;
        assert_ne!(hash(&after), hash(&before), "{secret}/{key}");
        before = after;
    }

    // Gone: it is said which, and everything stays as it is.
    let pod = bed.pod("files").await;
    namespace.delete(resources::SECRETS, "krb").await.expect("its deletion");
    bed.wait_message("files", "ConfigReady", "False", "Secret krb (it does not exist)").await;
    bed.wait_polls("files", 2).await;
    assert_eq!(hash(&bed.set("files").await), hash(&before));
    assert_eq!(uid(&bed.pod("files").await), uid(&pod));
    let (secret, data) = SECRETS[1];
    namespace.secret(secret, &[("nfs", "another-value-of-krb-nfs"), data[1]]).await.expect("the same again");
    bed.world.wait_ready("files").await.expect("ready again");
    assert_eq!(uid(&bed.pod("files").await), uid(&pod), "the values are the same");

    // Switched off, nothing of it is left.
    let off = json!({"identity": {"ldap": {"enabled": false}, "kerberos": {"enabled": false}}});
    bed.patch_spec("files", &off).await;
    bed.wait_starts(starts + 1).await;
    bed.world.wait_ready("files").await.expect("ready without");
    let pod = bed.pod("files").await;
    let left = pod["spec"]["volumes"].as_array().expect("volumes").iter().filter(|volume| !volume["secret"].is_null());
    assert_eq!(left.count(), 1, "the token of the metrics alone");
    let config = bed.get(resources::CONFIG_MAPS, "files-config").await;
    let text = config["data"]["config.yaml"].as_str().expect("the configuration");
    assert!(!text.contains("ldap") && !text.contains("kerberos"), "{text}");
    bed.finish(starts + 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_krb5_conf_of_the_spec_is_mounted_and_rolls_the_pod_when_it_changes() {
    let bed = Bed::new("krb5-conf").await;
    bed.world.namespace().secret("krb", &[("nfs", "keytab-of-the-nfs-service")]).await.expect("a Secret");
    let kerberos = json!({
        "enabled": true, "keytabSecretRef": {"name": "krb", "key": "nfs"}, "krb5Conf": "[libdefaults]\n  realm = A\n",
    });
    bed.ready_server("files", &json!({"rollout": {"onSpecChange": "WhenNeeded"}, "identity": {"kerberos": kerberos}}))
        .await;
    let pod = bed.pod("files").await;
    let mut volumes = pod["spec"]["volumes"].as_array().expect("volumes").iter();
    let volume = volumes.find(|volume| volume["name"] == "kerberos-krb5").expect("a volume");
    assert_eq!(volume["configMap"]["name"], "files-config");
    assert_eq!(volume["configMap"]["items"], json!([{"key": "krb5.conf", "path": "krb5.conf"}]));
    let before = bed.set("files").await;

    let changed = "[libdefaults]\n  realm = B\n";
    bed.patch_spec("files", &json!({"identity": {"kerberos": {"krb5Conf": changed}}})).await;
    bed.wait_starts(2).await;
    bed.world.wait_ready("files").await.expect("ready with the new text");
    assert_ne!(hash(&bed.set("files").await), hash(&before));
    assert_eq!(bed.get(resources::CONFIG_MAPS, "files-config").await["data"]["krb5.conf"], changed);

    // A path is the image's own file, as the Go operator has it.
    bed.patch_spec("files", &json!({"identity": {"kerberos": {"krb5Conf": "/etc/krb5.conf"}}})).await;
    bed.wait_starts(3).await;
    bed.world.wait_ready("files").await.expect("ready with the path");
    let config = bed
        .wait_object(resources::CONFIG_MAPS, "files-config", "to have the configuration alone", |config| {
            if config["data"]["krb5.conf"].is_null() { Ok(()) } else { Err(config["data"].to_string()) }
        })
        .await;
    assert!(config["data"]["config.yaml"].as_str().unwrap_or_default().contains("krb5_conf: \"/etc/krb5.conf\""));
    bed.finish(3).await;
}
