//! ConfigHasher: what it keeps, what it hashes, what it holds and what it tells.

use actix::prelude::*;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};

use crate::actors::config_hasher::ConfigHasher;
use crate::actors::messages::{Cause, CauseKind, ConfigHashed, Fact, Peers, Poke, Resend, Role};
use crate::actors::testing::api::Fault;
use crate::actors::testing::{Bench, Probe, changed, key, pass, run};
use crate::actors::vault::secret_text;
use crate::cluster::Kind;
use crate::reconcile::stateful_set::HashInput;
use crate::reconcile::status::ConfigFact;

const MADE: [&str; 3] =
    ["POST ConfigMap files-config", "POST Secret files-jwt-secret", "POST Secret files-admin-bootstrap-credentials"];

struct Setup {
    bench: Bench,
    hashes: Probe<ConfigHashed>,
    address: Addr<ConfigHasher>,
}

fn start_on(bench: Bench) -> Setup {
    let hashes = Probe::new();
    let peers = Peers { hashed: hashes.recipient(), observed: Vec::new(), status: bench.status.recipient() };
    let lifeline = bench.lifeline(Role::ConfigHasher);
    let address = ConfigHasher::new(key(), bench.deps.clone(), peers, lifeline).start();
    Setup { bench, hashes, address }
}

/// One whose server has this for its `identity`.
fn start(identity: Value) -> Setup {
    start_on(Bench::new().and_server(|spec| spec["identity"] = identity))
}

impl Setup {
    async fn poke(&self) {
        self.address.do_send(changed());
        pass(1.0).await;
    }
    fn last_hash(&self) -> HashInput {
        self.hashes.last().expect("a hash was sent").hash
    }
    fn last_fact(&self) -> ConfigFact {
        match self.bench.status.facts().pop() {
            Some(Fact::Config(fact)) => fact,
            other => panic!("no config fact: {other:?}"),
        }
    }
    fn last_fact_of_config(&self) -> ConfigFact {
        let told = self.bench.status.facts().into_iter().rev();
        let mut told = told.filter_map(|fact| if let Fact::Config(fact) = fact { Some(fact) } else { None });
        told.next().expect("a config fact")
    }
    fn held_for(&self) -> String {
        match self.last_fact() {
            ConfigFact::SecretMissing { text, .. } => text,
            other => panic!("not held: {other:?}"),
        }
    }
}

fn secret(name: &str, values: &[(&str, &str)]) -> Value {
    let data: serde_json::Map<_, _> =
        values.iter().map(|(key, value)| ((*key).to_owned(), json!(BASE64_STANDARD.encode(value)))).collect();
    json!({"metadata": {"name": name}, "data": data})
}

fn user_jwt() -> Value {
    json!({"jwt": {"secretRef": {"name": "my-jwt", "key": "signing"}}})
}

#[test]
fn config_map_and_secrets_are_made_once_and_the_hash_is_sent_once() {
    run(async {
        let setup = start(json!({}));
        setup.poke().await;
        assert_eq!(setup.bench.api.writes(), MADE);
        assert!(matches!(setup.last_hash(), HashInput::Hash(hash) if hash.len() == 64));
        assert_eq!(setup.hashes.last().map(|hashed| hashed.generation), Some(1));
        assert_eq!(setup.last_fact(), ConfigFact::Valid { generation: 1 });
        let told = setup.bench.status.changes();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("created ConfigMap files-config"), "{told:?}");
        for _ in 0..5 {
            setup.poke().await;
        }
        setup.bench.sync();
        setup.poke().await;
        assert_eq!(setup.bench.api.writes(), MADE, "nothing is written again");
        assert_eq!((setup.hashes.count(), setup.bench.status.facts().len()), (1, 1), "nor told again");
        setup.address.do_send(Resend);
        pass(1.0).await;
        assert_eq!((setup.hashes.count(), setup.bench.status.facts().len()), (2, 2), "unless somebody asks");
    });
}

#[test]
fn another_life_of_the_operator_computes_the_same_hash_and_writes_nothing() {
    run(async {
        let setup = start(json!({}));
        setup.poke().await;
        let first = setup.last_hash();
        setup.bench.sync();
        let again = start_on(setup.bench);
        again.poke().await;
        assert_eq!(again.last_hash(), first);
        assert_eq!(again.bench.api.writes(), MADE);
    });
}

#[test]
fn check_reads_what_the_hash_is_made_of_and_comes_to_the_same() {
    run(async {
        let kerberos = json!({
            "enabled": true, "keytabSecretRef": {"name": "krb", "key": "nfs"}, "krb5Conf": "[libdefaults]\n",
        });
        let identity = json!({"kerberos": kerberos, "jwt": user_jwt()["jwt"]});
        let setup = start(identity);
        let agrees = async || {
            setup.poke().await;
            setup.bench.sync();
            let server = setup.bench.deps.spec(&key()).expect("the server").server.clone().expect("a valid spec");
            let live = crate::check::read(&setup.bench.deps.cluster, &setup.bench.deps.classes, &server, None)
                .await
                .expect("an answer");
            assert_eq!(live.hash, Some(setup.last_hash()));
            for missing in &live.missing {
                assert!(setup.held_for().contains(missing), "{missing}: {}", setup.held_for());
            }
            (setup.last_hash(), live.missing.len())
        };
        assert_eq!(agrees().await, (HashInput::Held, 2));
        setup.bench.api.put(Kind::Secret, secret("my-jwt", &[("other", "x")]));
        setup.bench.api.put(Kind::Secret, secret("krb", &[("nfs", "k")]));
        assert_eq!(agrees().await, (HashInput::Held, 1));
        setup.bench.api.put(Kind::Secret, secret("my-jwt", &[("signing", "0123456789abcdef0123456789abcdef")]));
        let (first, missing) = agrees().await;
        assert_eq!(missing, 0);
        setup.bench.edit(|spec| spec["identity"]["kerberos"]["krb5Conf"] = json!("[realms]\n"));
        let (second, _) = agrees().await;
        assert_ne!(first, second);
        assert!(matches!(second, HashInput::Hash(_)));
    });
}

#[test]
fn check_tells_a_secret_that_is_still_to_be_made_from_one_that_is_missing() {
    run(async {
        let setup = start(json!({}));
        let server = setup.bench.deps.spec(&key()).expect("the server").server.clone().expect("a valid spec");
        let read = async || {
            crate::check::read(&setup.bench.deps.cluster, &setup.bench.deps.classes, &server, None)
                .await
                .expect("an answer")
        };
        let live = read().await;
        assert_eq!((live.hash, live.missing), (Some(HashInput::Pending), vec![]));
        assert_eq!(live.secrets_to_make, ["files-jwt-secret", "files-admin-bootstrap-credentials"]);
        setup.poke().await;
        setup.bench.api.change(Kind::Secret, "files-jwt-secret", |held| {
            held["metadata"]["ownerReferences"] = json!([{"kind": "DittoServer", "uid": "uid-files"}]);
        });
        let live = read().await;
        assert_eq!((live.hash, live.secrets_to_make), (Some(setup.last_hash()), vec![]));
        assert_eq!(live.secrets_to_free, ["files-jwt-secret"]);
        assert!(setup.bench.api.writes().iter().all(|write| MADE.contains(&write.as_str())), "check writes nothing");
    });
}

#[test]
fn a_missing_user_secret_holds_the_hash_and_is_named_and_the_hash_follows_when_it_appears() {
    run(async {
        let setup = start(user_jwt());
        setup.poke().await;
        assert_eq!(setup.last_hash(), HashInput::Held);
        let text = setup.held_for();
        assert!(text.contains("my-jwt") && text.contains("does not exist"), "{text}");
        assert_eq!(setup.bench.api.count("POST Secret files-jwt-secret"), 0, "ours is not made in its place");

        setup.bench.api.put(Kind::Secret, secret("my-jwt", &[("other", "x")]));
        setup.poke().await;
        assert!(setup.held_for().contains("has no key signing"), "{}", setup.held_for());

        setup.bench.api.change(Kind::Secret, "my-jwt", |held| {
            held["data"] = secret("", &[("signing", "0123456789abcdef0123456789abcdef")])["data"].clone();
        });
        setup.address.do_send(Poke(Cause::here(CauseKind::SecretChanged)));
        pass(1.0).await;
        assert!(matches!(setup.last_hash(), HashInput::Hash(_)));
        assert_eq!(setup.last_fact(), ConfigFact::Valid { generation: 1 });
    });
}

#[test]
fn an_unreadable_secret_holds_the_hash_and_is_read_again_by_itself() {
    for (code, reason, category) in [(403, "Forbidden", "forbidden"), (500, "InternalError", "server-error")] {
        run(async move {
            let setup = start(user_jwt());
            setup.bench.api.put(Kind::Secret, secret("my-jwt", &[("signing", "0123456789abcdef0123456789abcdef")]));
            setup.bench.api.fail(4, "GET Secret my-jwt", Fault::Status(code, reason));
            setup.poke().await;
            assert_eq!(setup.last_hash(), HashInput::Held);
            assert!(setup.held_for().contains(category), "{}", setup.held_for());
            pass(20.0).await;
            assert!(matches!(setup.last_hash(), HashInput::Hash(_)), "without any poke");
            assert_eq!(setup.bench.api.count("GET Secret my-jwt"), 5);
        });
    }
}

#[test]
fn a_used_key_changes_the_hash_and_an_unused_one_or_another_secret_does_not() {
    run(async {
        let setup = start(user_jwt());
        setup.bench.api.put(Kind::Secret, secret("my-jwt", &[("signing", "0123456789abcdef0123456789abcdef")]));
        setup.poke().await;
        let first = setup.last_hash();
        setup.bench.api.change(Kind::Secret, "my-jwt", |held| held["data"]["unused"] = json!("eA=="));
        setup.bench.api.put(Kind::Secret, secret("unrelated", &[("signing", "x")]));
        setup.poke().await;
        assert_eq!(setup.hashes.count(), 1);
        setup.bench.api.change(Kind::Secret, "my-jwt", |held| {
            held["data"]["signing"] = json!(BASE64_STANDARD.encode("fedcba9876543210fedcba9876543210"));
        });
        setup.poke().await;
        assert_eq!(setup.hashes.count(), 2);
        assert_ne!(setup.last_hash(), first);
    });
}

#[test]
fn a_generated_secret_that_somebody_changed_stays_as_it_is() {
    run(async {
        let setup = start(json!({}));
        setup.poke().await;
        let first = setup.last_hash();
        let mine = BASE64_STANDARD.encode("a key of my own that is long enough");
        setup.bench.api.change(Kind::Secret, "files-jwt-secret", |held| held["data"]["jwt-secret"] = json!(mine));
        setup.poke().await;
        assert_eq!(setup.bench.api.get(Kind::Secret, "files-jwt-secret")["data"]["jwt-secret"], json!(mine));
        assert_ne!(setup.last_hash(), first);
        assert_eq!(setup.bench.api.writes(), MADE);
    });
}

#[test]
fn the_password_that_an_older_release_made_is_taken_over() {
    run(async {
        let bench = Bench::with_server();
        bench.api.put(Kind::Secret, secret("files-admin-credentials", &[("password", "from-before")]));
        let setup = start_on(bench);
        setup.poke().await;
        let made = setup.bench.api.get(Kind::Secret, "files-admin-bootstrap-credentials");
        assert_eq!(secret_text(&made, "password").as_deref(), Some("from-before"));
        assert_eq!(secret_text(&made, "username").as_deref(), Some("admin"));
    });
}

#[test]
fn a_config_map_that_drifted_or_was_deleted_is_repaired_and_the_hash_stays() {
    run(async {
        let setup = start(json!({}));
        setup.poke().await;
        setup.bench.sync();
        let good = setup.bench.api.get(Kind::ConfigMap, "files-config")["data"].clone();
        setup.bench.api.change(Kind::ConfigMap, "files-config", |map| map["data"]["config.yaml"] = json!("broken"));
        setup.bench.sync();
        setup.poke().await;
        assert_eq!(setup.bench.api.get(Kind::ConfigMap, "files-config")["data"], good);
        assert_eq!(setup.bench.api.count("PUT ConfigMap"), 1);
        setup.bench.api.remove(Kind::ConfigMap, "files-config");
        setup.bench.sync();
        setup.poke().await;
        assert_eq!(setup.bench.api.get(Kind::ConfigMap, "files-config")["data"], good);
        assert_eq!(
            (setup.hashes.count(), setup.bench.status.facts().len()),
            (1, 1),
            "nothing of it is news to the siblings"
        );
    });
}

#[test]
fn another_generation_is_another_hash_and_the_config_map_follows() {
    run(async {
        let setup = start(json!({}));
        setup.poke().await;
        let first = setup.last_hash();
        setup.bench.sync();
        setup.bench.edit(|spec| spec["logging"] = json!({"level": "DEBUG"}));
        setup.poke().await;
        assert_eq!(setup.bench.api.count("PUT ConfigMap files-config"), 1);
        assert_ne!(setup.last_hash(), first);
        assert_eq!(setup.hashes.last().map(|hashed| hashed.generation), Some(2));
        assert_eq!(setup.last_fact(), ConfigFact::Valid { generation: 2 });
    });
}

#[test]
fn a_foreign_config_map_is_left_alone_and_nothing_is_hashed() {
    run(async {
        let bench = Bench::with_server();
        let foreign = bench.api.put(Kind::ConfigMap, json!({"metadata": {"name": "files-config"}, "data": {"a": "b"}}));
        let setup = start_on(bench);
        setup.poke().await;
        assert_eq!(setup.bench.api.get(Kind::ConfigMap, "files-config"), foreign);
        assert_eq!(setup.hashes.count(), 0);
        assert!(setup.bench.api.reasons().contains(&"NotOwned".to_owned()));
        assert!(matches!(setup.last_fact(), ConfigFact::Failed { text, .. } if text.contains("somebody else")));
        setup.bench.api.remove(Kind::ConfigMap, "files-config");
        pass(31.0).await;
        assert_eq!(setup.last_fact(), ConfigFact::Valid { generation: 1 });
    });
}

#[test]
fn after_a_failure_that_healed_the_siblings_hear_that_all_is_well_again() {
    run(async {
        let setup = start(json!({}));
        setup.poke().await;
        setup.bench.sync();
        setup.bench.api.fail(2, "GET Secret files-jwt-secret", Fault::Status(500, "InternalError"));
        setup.poke().await;
        pass(10.0).await;
        let facts = setup.bench.status.facts();
        assert!(facts.iter().any(|fact| matches!(fact, Fact::Config(ConfigFact::Failed { .. }))), "{facts:?}");
        assert_eq!(setup.last_fact(), ConfigFact::Valid { generation: 1 });
    });
}

#[test]
fn a_server_that_is_invalid_or_being_deleted_is_not_acted_upon() {
    run(async {
        let setup = start(json!({}));
        setup.bench.edit(|spec| spec["adapterDiscovery"]["pollingInterval"] = json!("soon"));
        setup.poke().await;
        setup.bench.edit(|spec| spec["adapterDiscovery"]["pollingInterval"] = json!("1s"));
        setup.bench.api.change(Kind::DittoServer, "files", |server| {
            server["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        });
        setup.bench.sync();
        setup.poke().await;
        assert!(setup.bench.api.asked().is_empty());
        assert_eq!((setup.hashes.count(), setup.bench.status.facts().len()), (0, 0));
    });
}

#[test]
fn a_database_of_percona_is_made_when_its_kind_is_served_and_the_hash_waits_until_it_is_ready() {
    const CLUSTER: &str = "files-postgres";
    run(async {
        let setup = start_on(Bench::new().and_server(|spec| spec["percona"] = json!({"enabled": true})));
        let database = |setup: &Setup| {
            let told = setup.bench.status.facts().into_iter().rev();
            let mut told = told.filter_map(|fact| if let Fact::Database(fact) = fact { Some(fact) } else { None });
            told.next().flatten().expect("a fact about the database")
        };
        setup.bench.api.fail(usize::MAX, "GET PerconaPGCluster", Fault::Status(404, ""));
        setup.poke().await;
        assert_eq!(database(&setup).problem.expect("a problem").0, "PerconaMissing");
        assert_eq!(setup.last_hash(), HashInput::Held);
        assert_eq!(setup.bench.api.count("POST PerconaPGCluster"), 0);

        // Nobody pokes: it is looked for again and again.
        setup.bench.api.heal();
        pass(10.0).await;
        assert_eq!(setup.bench.api.count("POST PerconaPGCluster"), 1);
        assert_eq!(database(&setup).problem.expect("a problem").0, "PerconaNotReady");
        let values = [("host", "h"), ("dbname", "d"), ("user", "u"), ("password", "p")];
        setup.bench.api.put(Kind::Secret, secret("files-postgres-pguser-dittofs", &values));
        setup.poke().await;
        assert_eq!(setup.last_hash(), HashInput::Held, "the Secret alone is not enough");
        assert_eq!(setup.last_fact_of_config(), ConfigFact::Valid { generation: 1 });
        setup
            .bench
            .api
            .change(Kind::PerconaPgCluster, CLUSTER, |cluster| cluster["status"] = json!({"state": "ready"}));
        pass(10.0).await;
        assert!(matches!(setup.last_hash(), HashInput::Hash(_)), "{:?}", setup.last_hash());
        assert_eq!(database(&setup).problem, None);
        assert_eq!(setup.bench.api.count("PUT PerconaPGCluster"), 0);
        assert!(setup.bench.api.reasons().contains(&"PerconaNotReady".to_owned()));
    });
}

#[test]
fn a_server_that_goes_leaves_its_database_or_takes_it_as_the_spec_says_now() {
    const CLUSTER: &str = "files-postgres";
    for (delete, owned) in [(false, true), (true, false), (false, false), (true, true)] {
        run(async move {
            let spec = json!({"enabled": true, "deleteWithServer": delete});
            let setup = start_on(Bench::new().and_server(|server| server["percona"] = spec));
            let uid = setup.bench.api.get(Kind::DittoServer, "files")["metadata"]["uid"].clone();
            let owners =
                if owned { json!([{"kind": "DittoServer", "uid": uid, "controller": true}]) } else { json!([]) };
            let cluster = json!({"metadata": {
                "name": CLUSTER, "labels": {"instance": "files"}, "ownerReferences": owners,
            }});
            setup.bench.api.put(Kind::PerconaPgCluster, cluster);
            setup.bench.api.change(Kind::DittoServer, "files", |server| {
                server["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            });
            setup.bench.sync();
            setup.poke().await;
            let left = setup.bench.api.get(Kind::PerconaPgCluster, CLUSTER);
            assert_eq!(left["metadata"]["ownerReferences"][0]["uid"] == uid, delete, "{left}");
            let written = if delete == owned { Vec::new() } else { vec![format!("PUT PerconaPGCluster {CLUSTER}")] };
            assert_eq!(setup.bench.api.writes(), written);
        });
    }
}
