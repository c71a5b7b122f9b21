//! The fields of Services: what reaches each kind of Service, what goes again, and what Kubernetes does not let change.

use dittofs_testbed::cluster::resources;
use serde_json::{Value, json};

use crate::look::uid;
use crate::support::Bed;

const BOTH: [(&str, u64); 2] = [("nfs", 12049), ("smb", 1445)];
/// The API's, the file clients', an adapter's with settings of its own, and an adapter's with the common ones.
const FOUR: [&str; 4] = ["files-api", "files-file", "files-adapter-nfs", "files-adapter-smb"];

/// A spec of which a change of Services starts no pod.
fn quiet(more: &Value) -> Value {
    let mut spec = json!({"rollout": {"onSpecChange": "WhenNeeded"}});
    dittofs_testbed::world::merge(&mut spec, more);
    spec
}

/// Every field of a Service, its texts marked.
fn fields(mark: &str, ranges: &[&str]) -> Value {
    json!({
        "type": "LoadBalancer",
        "annotations": {"example.com/note": mark},
        "labels": {"example.com/team": mark},
        "loadBalancerClass": format!("example.com/{mark}"),
        "loadBalancerSourceRanges": ranges,
        "externalTrafficPolicy": "Local",
        "ipFamilyPolicy": "PreferDualStack",
        "ipFamilies": ["IPv4"],
    })
}

/// What of a Service must outlast every change of it.
fn lasting(service: &Value) -> (String, Value) {
    (uid(service).to_owned(), service["spec"]["clusterIP"].clone())
}

fn node_ports(service: &Value) -> Vec<u64> {
    service["spec"]["ports"].as_array().into_iter().flatten().filter_map(|port| port["nodePort"].as_u64()).collect()
}

/// The fields of a Service that the spec names, as they stand there.
fn found(service: &Value) -> Value {
    let (spec, meta) = (&service["spec"], &service["metadata"]);
    json!({
        "type": spec["type"],
        "annotations": meta["annotations"]["example.com/note"],
        "labels": meta["labels"]["example.com/team"],
        "loadBalancerClass": spec["loadBalancerClass"],
        "loadBalancerSourceRanges": spec["loadBalancerSourceRanges"],
        "externalTrafficPolicy": spec["externalTrafficPolicy"],
        "ipFamilyPolicy": spec["ipFamilyPolicy"],
        "ipFamilies": spec["ipFamilies"],
    })
}

async fn wait_found(bed: &Bed, name: &str, wanted: &Value) -> Value {
    bed.wait_object(resources::SERVICES, name, &format!("to have {wanted}"), |service| {
        let found = found(service);
        if found == *wanted { Ok(()) } else { Err(found.to_string()) }
    })
    .await
}

/// What the API server refused of the Services' content, in words.
fn refusals(bed: &Bed) -> Vec<String> {
    let writes = bed.writes("services").into_iter().filter(|entry| entry.code == 422);
    writes
        .map(|entry| format!("{}: {} for {}", entry.object.name, entry.response["message"], entry.request["spec"]))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_field_reaches_each_kind_of_service_and_goes_again() {
    let bed = Bed::new("service-fields").await;
    let spec = quiet(&json!({
        "service": fields("both", &["192.0.2.0/24"]),
        "apiService": {"loadBalancerSourceRanges": ["198.51.100.0/24"], "labels": {"example.com/team": "api"}},
        "fileService": {"annotations": {"example.com/note": "file"}, "externalTrafficPolicy": "Cluster"},
        "adapterServices": {"perAdapter": {"nfs": fields("nfs", &["203.0.113.0/24", "2001:db8::/32"])},
                            "annotations": {"example.com/note": "adapters"}},
    }));
    bed.ready_server("files", &spec).await;
    bed.wait_adapter_services("files", &BOTH).await;
    let as_set = |mark: &str, ranges: Value| {
        let mut wanted = fields(mark, &[]);
        wanted["annotations"] = json!(mark);
        wanted["labels"] = json!(mark);
        wanted["loadBalancerSourceRanges"] = ranges;
        wanted
    };
    let mut api = as_set("both", json!(["198.51.100.0/24"]));
    api["labels"] = json!("api");
    let mut file = as_set("both", json!(["192.0.2.0/24"]));
    (file["annotations"], file["externalTrafficPolicy"]) = (json!("file"), json!("Cluster"));
    let nfs = as_set("nfs", json!(["203.0.113.0/24", "2001:db8::/32"]));
    let smb = json!({
        "type": "LoadBalancer", "annotations": "adapters", "labels": null, "loadBalancerClass": null,
        "loadBalancerSourceRanges": null, "externalTrafficPolicy": "Cluster", "ipFamilyPolicy": "SingleStack",
        "ipFamilies": ["IPv4"],
    });
    let mut before = Vec::new();
    for (name, wanted) in FOUR.iter().zip([&api, &file, &nfs, &smb]) {
        let service = wait_found(&bed, name, wanted).await;
        before.push((lasting(&service), node_ports(&service)));
        let theirs = json!({"annotations": {"cloud.example/note": "theirs"}, "labels": {"team.example/owner": "them"}});
        bed.patch_meta(resources::SERVICES, name, &theirs).await;
    }
    bed.wait_endpoints("files", &BOTH).await;

    // Everything but the class, which Kubernetes does not let go.
    let nothing = json!({
        "annotations": null, "labels": null, "loadBalancerSourceRanges": null, "externalTrafficPolicy": null,
        "ipFamilyPolicy": null, "ipFamilies": null,
    });
    bed.patch_spec(
        "files",
        &json!({
            "service": nothing, "apiService": null, "fileService": null,
            "adapterServices": {"annotations": null, "perAdapter": {"nfs": nothing}},
        }),
    )
    .await;
    for ((name, class), (identity, ports)) in FOUR
        .iter()
        .zip([json!("example.com/both"), json!("example.com/both"), json!("example.com/nfs"), json!(null)])
        .zip(&before)
    {
        let service = wait_found(
            &bed,
            name,
            &json!({
                "type": "LoadBalancer", "annotations": null, "labels": null, "loadBalancerClass": class,
                "loadBalancerSourceRanges": null, "externalTrafficPolicy": "Cluster", "ipFamilyPolicy": "SingleStack",
                "ipFamilies": ["IPv4"],
            }),
        )
        .await;
        assert_eq!((&lasting(&service), &node_ports(&service)), (identity, ports), "{name}");
        assert_eq!(service["metadata"]["annotations"]["cloud.example/note"], "theirs", "{name}");
        assert_eq!(service["metadata"]["labels"]["team.example/owner"], "them", "{name}");
        assert_eq!(service["metadata"]["labels"]["app"], "dittofs-server", "{name}");
    }
    bed.world.wait_ready("files").await.expect("ready");
    assert_eq!(refusals(&bed), [""; 0], "a write was refused");
    // Nothing is written for what stands there.
    let writes = bed.writes("services").len();
    bed.wait_polls("files", 3).await;
    assert_eq!(bed.writes("services").len(), writes);
    bed.finish(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_with_every_field_goes_through_all_types_in_place() {
    let bed = Bed::new("service-types").await;
    let set = |kind: &str| {
        let mut fields = fields("x", &["192.0.2.0/24"]);
        fields["type"] = json!(kind);
        json!({"service": fields, "adapterServices": fields})
    };
    bed.ready_server("files", &quiet(&set("LoadBalancer"))).await;
    bed.wait_adapter_services("files", &BOTH).await;
    let mut before = Vec::new();
    for name in FOUR {
        let service = bed.service(name).await;
        assert!(service["spec"]["healthCheckNodePort"].is_u64(), "{name}: {}", service["spec"]);
        before.push(service);
    }
    for kind in ["NodePort", "ClusterIP", "LoadBalancer", "ClusterIP", "NodePort", "LoadBalancer"] {
        bed.patch_spec("files", &set(kind)).await;
        for (name, last) in FOUR.iter().zip(&mut before) {
            let (balanced, published) = (kind == "LoadBalancer", kind != "ClusterIP");
            let only = |on: bool, value: Value| if on { value } else { json!(null) };
            let service = wait_found(
                &bed,
                name,
                &json!({
                    "type": kind, "annotations": "x", "labels": "x", "ipFamilyPolicy": "PreferDualStack",
                    "ipFamilies": ["IPv4"],
                    "loadBalancerClass": only(balanced, json!("example.com/x")),
                    "loadBalancerSourceRanges": only(balanced, json!(["192.0.2.0/24"])),
                    "externalTrafficPolicy": only(published, json!("Local")),
                }),
            )
            .await;
            assert_eq!(lasting(&service), lasting(last), "{name} as {kind}");
            assert_eq!(service["spec"]["healthCheckNodePort"].is_u64(), balanced, "{name} as {kind}");
            if published && last["spec"]["type"] != "ClusterIP" {
                assert_eq!(node_ports(&service), node_ports(last), "{name} as {kind}");
            }
            *last = service;
        }
    }
    assert_eq!(refusals(&bed), [""; 0], "a write was refused");
    let recreated = bed.writes("services").iter().filter(|entry| entry.verb == "delete").count();
    assert_eq!(recreated, 0, "Services were deleted");
    bed.world.wait_ready("files").await.expect("ready");
    bed.finish(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn source_ranges_and_a_class_of_somebody_else_do_not_stop_a_load_balancer_from_becoming_another_type() {
    let bed = Bed::new("service-leaving").await;
    bed.ready_server("files", &quiet(&json!({"adapterServices": {"type": "ClusterIP"}}))).await;
    bed.wait_adapter_services("files", &BOTH).await;
    let before = bed.service("files-adapter-nfs").await;
    // Somebody publishes it with fields of his own; the type is ours and goes back.
    bed.edit(resources::SERVICES, "files-adapter-nfs", |service| {
        service["spec"]["type"] = json!("LoadBalancer");
        service["spec"]["loadBalancerClass"] = json!("example.com/theirs");
        service["spec"]["loadBalancerSourceRanges"] = json!(["192.0.2.0/24"]);
        service["spec"]["externalTrafficPolicy"] = json!("Local");
    })
    .await;
    let after = bed
        .wait_object(resources::SERVICES, "files-adapter-nfs", "to be inside the cluster again", |service| {
            let kind = &service["spec"]["type"];
            if kind == "ClusterIP" { Ok(()) } else { Err(kind.to_string()) }
        })
        .await;
    assert_eq!(lasting(&after), lasting(&before));
    for field in ["loadBalancerClass", "loadBalancerSourceRanges", "healthCheckNodePort", "externalTrafficPolicy"] {
        assert!(after["spec"][field].is_null(), "{field}: {}", after["spec"]);
    }
    assert_eq!(refusals(&bed), [""; 0], "a write was refused");
    bed.finish(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_class_of_a_living_load_balancer_is_told_and_the_service_is_never_made_anew() {
    let bed = Bed::new("service-class").await;
    let class = |class: &str| json!({"adapterServices": {"loadBalancerClass": class}});
    bed.ready_server("files", &quiet(&class("example.com/one"))).await;
    bed.wait_adapter_services("files", &BOTH).await;
    let before = bed.service("files-adapter-nfs").await;
    let writes = bed.writes("services").len();

    bed.patch_spec("files", &class("example.com/two")).await;
    let told = "loadBalancerClass stays example.com/one and cannot become example.com/two";
    bed.wait_message("files", "Ready", "False", told).await;
    bed.wait_event("AdapterServiceFailed", told).await;
    bed.wait_polls("files", 3).await;
    assert_eq!(bed.writes("services").len(), writes, "the API server was asked in vain");

    // Everything else follows.
    bed.patch_spec("files", &json!({"adapterServices": {"labels": {"example.com/team": "x"}}})).await;
    let labelled = bed
        .wait_object(resources::SERVICES, "files-adapter-nfs", "to have the label", |service| {
            let label = &service["metadata"]["labels"]["example.com/team"];
            if label == "x" { Ok(()) } else { Err(label.to_string()) }
        })
        .await;
    assert_eq!(labelled["spec"]["loadBalancerClass"], "example.com/one");
    bed.wait_message("files", "Ready", "False", told).await;

    // The way out that is told, with the Service in its place.
    for kind in ["ClusterIP", "LoadBalancer"] {
        bed.patch_spec("files", &json!({"adapterServices": {"type": kind}})).await;
        for (name, class) in [("files-adapter-nfs", "example.com/two"), ("files-adapter-smb", "example.com/two")] {
            bed.wait_object(resources::SERVICES, name, &format!("to be a {kind}"), |service| {
                let found = (&service["spec"]["type"], &service["spec"]["loadBalancerClass"]);
                let class = if kind == "ClusterIP" { json!(null) } else { json!(class) };
                if found == (&json!(kind), &class) { Ok(()) } else { Err(format!("{found:?}")) }
            })
            .await;
        }
    }
    bed.world.wait_ready("files").await.expect("ready again");
    assert_eq!(lasting(&bed.service("files-adapter-nfs").await), lasting(&before));
    assert_eq!(refusals(&bed), [""; 0], "a write was refused");
    bed.finish(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn families_that_the_cluster_does_not_have_are_told_and_stop_no_other_change() {
    let bed = Bed::new("service-families").await;
    bed.ready_server("files", &quiet(&json!({}))).await;
    bed.wait_adapter_services("files", &BOTH).await;
    let before = bed.service("files-api").await;
    let wish = json!({"apiService": {"ipFamilyPolicy": "RequireDualStack", "labels": {"example.com/team": "x"}}});
    bed.patch_spec("files", &wish).await;
    bed.wait_message("files", "Ready", "False", "ipFamilyPolicy and ipFamilies stay as they are").await;
    bed.wait_event("ReconcileFailed", "spec.ipFamilyPolicy").await;
    let after = bed
        .wait_object(resources::SERVICES, "files-api", "to have the label", |service| {
            let label = &service["metadata"]["labels"]["example.com/team"];
            if label == "x" { Ok(()) } else { Err(label.to_string()) }
        })
        .await;
    assert_eq!((lasting(&after), &after["spec"]["ipFamilyPolicy"]), (lasting(&before), &json!("SingleStack")));
    bed.wait_polls("files", 5).await;
    assert_eq!(refusals(&bed).len(), 1, "asked once: {:#?}", refusals(&bed));

    // The first family cannot change either.
    bed.patch_spec("files", &json!({"apiService": {"ipFamilyPolicy": null, "ipFamilies": ["IPv6"]}})).await;
    bed.wait_message("files", "Ready", "False", "as indicated by `ipFamilies[0]`").await;
    bed.wait_polls("files", 5).await;
    assert_eq!(refusals(&bed).len(), 2, "asked once more: {:#?}", refusals(&bed));
    bed.patch_spec("files", &json!({"apiService": {"ipFamilies": ["IPv4"]}})).await;
    bed.world.wait_ready("files").await.expect("ready again");
    assert_eq!(lasting(&bed.service("files-api").await), lasting(&before));
    bed.finish(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_adapter_has_a_service_of_its_own_type_and_an_address_is_told_where_there_is_one() {
    let bed = Bed::new("per-adapter").await;
    let spec = quiet(&json!({"adapterServices": {
        "type": "NodePort", "perAdapter": {"smb": {"type": "LoadBalancer", "annotations": {"example.com/ip": "1"}}},
    }}));
    bed.ready_server("files", &spec).await;
    bed.wait_adapter_services("files", &BOTH).await;
    let (nfs, smb) = (bed.service("files-adapter-nfs").await, bed.service("files-adapter-smb").await);
    assert_eq!((&nfs["spec"]["type"], &smb["spec"]["type"]), (&json!("NodePort"), &json!("LoadBalancer")));
    assert!(nfs["metadata"]["annotations"]["example.com/ip"].is_null());
    assert_eq!(smb["metadata"]["annotations"]["example.com/ip"], "1");
    bed.world
        .wait_server("files", "to tell the address of the load balancer alone", crate::look::LATER, |server| {
            let adapters = &server["status"]["adapters"];
            let found =
                (&adapters[0]["type"], adapters[0]["endpoint"].is_string(), adapters[1]["endpoint"].is_string());
            if found == (&json!("nfs"), false, true) { Ok(()) } else { Err(adapters.to_string()) }
        })
        .await
        .expect("the status tells");
    bed.finish(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_with_the_longest_names_are_served_and_their_adapters_followed() {
    let bed = Bed::new("long-names").await;
    // At 51 the name of the nfs Service is the plain one of 63 characters, at 52 it is cut with a hash.
    let names = ["a".repeat(51), "b".repeat(52)];
    for name in &names {
        bed.ready_server(name, &json!({})).await;
        bed.wait_adapter_services(name, &BOTH).await;
        let services = bed.world.adapter_services(name).await.expect("Services");
        let of = |service: &Value| service["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let cut = name.len() == 52;
        for service in &services {
            assert_eq!(of(service).starts_with(&format!("{name}-adapter-")), !cut, "{}", of(service));
            assert!(of(service).len() <= 63 && of(service).contains("-adapter-"), "{}", of(service));
        }
        let server = bed.get(resources::SERVERS, name).await;
        assert_eq!(server["status"]["adapters"][0]["serviceName"], of(&services[0]));
        assert_eq!(bed.pod(name).await["metadata"]["labels"]["instance"], name.as_str());
        bed.dittofs(name).stop_adapter("smb");
        bed.wait_adapter_services(name, &[("nfs", 12049)]).await;
    }
    bed.finish(2).await;
}
