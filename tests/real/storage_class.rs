//! A StorageClass that is not there: said at once and by `check`, no hindrance to volumes that were made by hand, and
//! found when it arrives.

use dittofs_testbed::cluster::{Cluster, ClusterOptions, Resource, resources};
use dittofs_testbed::operator::{Account, Rights};
use dittofs_testbed::world::condition;
use serde_json::{Value, json};

use crate::look::LATER;
use crate::support::{Bed, OPERATOR};

const VOLUMES: Resource = Resource { api_version: "v1", plural: "persistentvolumes", kind: "PersistentVolume" };
const REVIEWS: Resource =
    Resource { api_version: "authorization.k8s.io/v1", plural: "subjectaccessreviews", kind: "SubjectAccessReview" };

impl Bed {
    /// Lets the operator look at StorageClasses, as the deployed one may: that of one namespace has no such right.
    pub(crate) async fn let_look_at_classes(&self) {
        let (cluster, user) = (self.world.cluster(), self.world.operator().user());
        let name = format!("{}-look", self.world.namespace().name());
        let rules =
            json!([{"apiGroups": ["storage.k8s.io"], "resources": ["storageclasses"], "verbs": ["get", "list"]}]);
        let role = json!({"metadata": {"name": name}, "rules": rules});
        cluster.create(resources::CLUSTER_ROLES, "", &role).await.expect("a role");
        let binding = json!({"metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}]});
        cluster.create(resources::CLUSTER_ROLE_BINDINGS, "", &binding).await.expect("a binding");
        let attributes = json!({"group": "storage.k8s.io", "resource": "storageclasses", "verb": "list"});
        let review = json!({"metadata": {}, "spec": {"user": user, "resourceAttributes": attributes}});
        self.world
            .wait_until("the right to list classes", LATER, async || {
                let answer = cluster.create(REVIEWS, "", &review).await.map_err(|error| error.to_string())?;
                if answer["status"]["allowed"] == true { Ok(()) } else { Err(answer["status"].to_string()) }
            })
            .await
            .expect("the right");
    }

    /// `dittofs-operator check` with the right to read all, in words.
    async fn check_says(&self) -> String {
        let read = json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list"]});
        let (cluster, namespace) = (self.world.cluster(), self.world.namespace().name());
        let account = Account::create(cluster, namespace, None, &Rights::Rules(vec![read])).await.expect("an account");
        let directory = tempfile::tempdir().expect("a directory");
        account.write_kubeconfig(directory.path(), None).expect("a kubeconfig");
        let mut command = tokio::process::Command::new(OPERATOR);
        command.args(["check", "--namespace", namespace]).env("KUBECONFIG", directory.path().join("kubeconfig"));
        String::from_utf8_lossy(&command.output().await.expect("it runs").stdout).into_owned()
    }
}

fn of_class(name: &str) -> Value {
    json!({
        "storage": {"metadataSize": "1Gi", "storageClassName": name}, "rollout": {"onSpecChange": "WhenNeeded"},
        "adapterDiscovery": {"pollingInterval": "1s"},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_class_is_said_at_once_and_by_check_and_is_no_hindrance_to_volumes_made_by_hand() {
    let bed = Bed::new("storage-class").await;
    bed.let_look_at_classes().await;
    let cluster = bed.world.cluster().clone();
    let (fast, manual) = (format!("{}-fast", bed.world.namespace().name()), "manual");

    bed.world.apply_server("files", &of_class(&fast)).await.expect("the API server takes it");
    let words = format!("spec.storage.storageClassName is \"{fast}\", and there is no StorageClass of that name");
    let told = bed.wait_message("files", "VolumesReady", "False", &words).await;
    // Long before the scheduler's word counts, and nothing is held back.
    assert_ne!(told["status"]["phase"], "Failed", "{}", told["status"]);
    bed.wait_condition("files", "VolumesReady", "False", "StorageClassNotFound").await;
    bed.wait_message("files", "VolumesReady", "False", "create the StorageClass, or a PersistentVolume").await;
    bed.wait_message("files", "Ready", "False", "VolumesReady is False (StorageClassNotFound)").await;
    bed.wait_event_once("StorageClassNotFound", &words).await;
    bed.wait_object(resources::STATEFUL_SETS, "files", "to be made all the same", |_| Ok(())).await;
    let said = bed.check_says().await;
    assert!(said.contains(&words), "{said}");

    // Volumes that bear the name of a class which has no object.
    let namespace = bed.world.namespace().name().to_owned();
    let claims = ["metadata-hand-0", "content-hand-0", "controlplane-hand-0"];
    let volume = |claim: &str| {
        json!({"metadata": {"name": format!("{namespace}-{claim}")}, "spec": {
            "capacity": {"storage": "2Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": manual,
            "persistentVolumeReclaimPolicy": "Retain", "hostPath": {"path": "/nonexistent"},
            "claimRef": {"namespace": namespace, "name": claim}}})
    };
    for claim in claims {
        cluster.create(VOLUMES, "", &volume(claim)).await.expect("a volume");
    }
    bed.world.apply_server("hand", &of_class(manual)).await.expect("the API server takes it");
    bed.world.wait_ready("hand").await.expect("ready without any StorageClass");
    let server = bed.world.server("hand").await.expect("the server");
    assert_eq!(condition(&server, "VolumesReady").expect("the condition")["status"], "True");

    // The class arrives.
    let class = json!({"metadata": {"name": fast}, "provisioner": "controlplane.test/volumes"});
    cluster.create(resources::STORAGE_CLASSES, "", &class).await.expect("a class");
    bed.world.wait_ready("files").await.expect("ready");
    bed.wait_condition("files", "VolumesReady", "True", "VolumesAsSpecified").await;
    let said = bed.check_says().await;
    assert!(!said.contains("there is no StorageClass"), "{said}");
    for claim in claims {
        cluster.delete(VOLUMES, "", &format!("{namespace}-{claim}")).await.expect("the volume is taken away");
    }
    cluster.delete(resources::STORAGE_CLASSES, "", &fast).await.expect("the class is taken away");
    bed.finish(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_without_a_default_class_is_said_to_a_server_that_names_none() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let cluster = Cluster::start(ClusterOptions::default()).await.expect("a control plane");
    let mut bed = Bed::on(&cluster, "storage-class-default").await;
    let default = |is: &str| json!({"metadata": {"annotations": {"storageclass.kubernetes.io/is-default-class": is}}});
    cluster.patch(resources::STORAGE_CLASSES, "", "standard", &default("false")).await.expect("no longer the default");
    let options = bed.options();
    bed.world.start_operator(options).await.expect("the operator starts");
    bed.let_look_at_classes().await;
    let spec = json!({"rollout": {"onSpecChange": "WhenNeeded"}, "adapterDiscovery": {"pollingInterval": "1s"}});
    bed.world.apply_server("files", &spec).await.expect("the API server takes it");
    let words = "spec.storage.storageClassName is unset, and the cluster has no default StorageClass";
    bed.wait_message("files", "VolumesReady", "False", words).await;
    bed.wait_condition("files", "VolumesReady", "False", "StorageClassNotFound").await;
    bed.wait_event_once("StorageClassNotFound", words).await;
    let said = bed.check_says().await;
    assert!(said.contains(words), "{said}");

    // Kubernetes gives the claims that wait the class that is the default then.
    cluster.patch(resources::STORAGE_CLASSES, "", "standard", &default("true")).await.expect("the default again");
    bed.wait_condition("files", "VolumesReady", "True", "VolumesAsSpecified").await;
    bed.world.wait_ready("files").await.expect("ready");
    bed.finish(1).await;
}
