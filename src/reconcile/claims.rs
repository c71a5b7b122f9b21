//! The claims of a server: whose they are, what size they have, and what to ask of them.
//!
//! Owns every decision about claims. They are never made here (the StatefulSet's controller does that) and never
//! deleted. A claim is ours by its name, by the labels that the controller gives it, and because the StatefulSet, which
//! is ours, has a template of that name. Its size is only ever asked to be more than it has: a wish that grew is asked
//! for; one that was taken back before the volume grew lowers what the claim asks for, as far as Kubernetes lets it, when
//! nobody but us had asked for that ([`wished_by_other`]).

mod askers;

pub use askers::wished_by_other;
use serde_json::{Map, Value, json};

use super::{Names, ValidatedServer, is_being_deleted, meta};
use crate::build::{APP, APP_LABEL, INSTANCE_LABEL, canonical, thousandths};
use crate::crd::rules::{self, Volume};

/// The volumes of a server.
pub const VOLUMES: [Volume; 3] = [Volume::Metadata, Volume::Content, Volume::ControlPlane];
/// Conditions of a claim with which its driver says that it failed.
const FAILED: [&str; 2] = ["ControllerResizeError", "NodeResizeError"];
/// Conditions of a claim with which its driver says how far it is.
const UNDER_WAY: [&str; 2] = ["FileSystemResizePending", "Resizing"];
/// Thousandths of a mebibyte.
const MEBIBYTE: i128 = 1024 * 1024 * 1000;
/// Longest text of a driver that is repeated, in characters.
const TEXT_MAX: usize = 300;

/// What a server wants of one claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Which.
    pub volume: Volume,
    /// Name of the claim.
    pub name: String,
    /// The size, as Kubernetes writes it.
    pub size: String,
}

/// What the server wants of its claims.
pub fn wishes(server: &ValidatedServer) -> Vec<Wish> {
    let sizes = |volume| match volume {
        Volume::Metadata => Some(&server.storage.metadata),
        Volume::Content => server.storage.content.as_ref(),
        Volume::ControlPlane => Some(&server.storage.control_plane),
    };
    VOLUMES
        .into_iter()
        .filter_map(|volume| {
            let size = canonical(sizes(volume)?);
            Some(Wish { volume, name: server.names().claim(volume.claim()), size })
        })
        .collect()
}

/// The server whose claim would have this name.
pub fn server_of_claim(name: &str) -> Option<&str> {
    let of_pod = VOLUMES.iter().find_map(|volume| name.strip_prefix(volume.claim())?.strip_prefix('-'))?;
    of_pod.strip_suffix("-0").filter(|server| !server.is_empty())
}

/// Whether an object is the claim of this server for this volume, by name and labels.
pub fn is_claim_of(claim: &Value, server: &str, volume: Volume) -> bool {
    let label = |name: &str| claim.pointer("/metadata/labels").and_then(|labels| labels.get(name)?.as_str());
    meta(claim, "name") == Names::new(server).claim(volume.claim())
        && label(APP_LABEL) == Some(APP)
        && label(INSTANCE_LABEL) == Some(server)
}

/// Whether the StatefulSet makes this claim.
pub fn has_template(set: &Value, volume: Volume) -> bool {
    template(set, volume.claim()).is_some()
}

fn template<'a>(set: &'a Value, claim: &str) -> Option<&'a Value> {
    let templates = set.pointer("/spec/volumeClaimTemplates")?.as_array()?;
    templates.iter().find(|template| meta(template, "name") == claim)
}

/// The size with which the StatefulSet makes this claim.
pub fn template_size(set: &Value, volume: Volume) -> Option<&str> {
    template(set, volume.claim())?.pointer("/spec/resources/requests/storage")?.as_str()
}

/// What of `spec.storage` cannot be brought about because the StatefulSet's claim templates are immutable: admission
/// refuses such a change; an older CRD may have let it through. In words.
pub fn storage_changed(server: &ValidatedServer, set: &Value) -> Option<String> {
    content_changed(server, set).or_else(|| class_changed(server, set))
}

/// The same for the volume that came or went: with it the pod template does not fit the claim templates any more, and
/// the server would start without its content or not at all.
pub fn content_changed(server: &ValidatedServer, set: &Value) -> Option<String> {
    match (&server.storage.content, template_size(set, Volume::Content)) {
        (Some(is), None) if has_template(set, Volume::Metadata) => Some(said("contentSize", "unset", is)),
        (None, Some(was)) => Some(said("contentSize", was, "unset")),
        _ => None,
    }
}

fn said(field: &str, was: &str, is: &str) -> String {
    format!("spec.storage.{field} was {was} and is now {is}: {}", rules::STORAGE_REMEDY)
}

fn class_changed(server: &ValidatedServer, set: &Value) -> Option<String> {
    let class = template(set, Volume::Metadata.claim())?.pointer("/spec/storageClassName").and_then(Value::as_str);
    let (was, is) = (class.unwrap_or_default(), server.storage.class.as_deref().unwrap_or_default());
    let word = |class: &str| if class.is_empty() { "unset".to_owned() } else { class.to_owned() };
    (was != is).then(|| said("storageClassName", &word(was), &word(is)))
}

/// Whether a StatefulSet has a pod, and with it a claim of each template.
pub fn has_pod(set: &Value) -> bool {
    set.pointer("/status/replicas").and_then(Value::as_i64).unwrap_or(0) > 0
}

/// Why nothing is asked of a claim that has the name of one of this server's and not its labels.
pub fn foreign(server: &str) -> String {
    format!(
        "it does not carry the labels app=dittofs-server, instance={server} of this server's claims and is left alone; \
         label it, or resize it yourself"
    )
}

/// How a claim stands to what is wanted of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has no volume yet, or is on its way out: nothing can be asked of it.
    Unbound,
    /// It has what is wanted.
    Fits,
    /// It is to be asked for another size; for less than it asks for now only when that is a wish of ours
    /// ([`wished_by_other`]).
    Ask {
        /// The size that it has.
        has: String,
        /// The size that it asks for now.
        asks: String,
        /// The size to ask for, more than it has.
        to: String,
        /// Whether that is more than it asks for now, which its StorageClass has to allow.
        grows: bool,
    },
    /// It was asked and has not grown yet.
    Growing {
        /// The size that it has.
        has: String,
        /// The size that it will have.
        asks: String,
        /// What its driver says of that.
        how: String,
        /// Whether the driver says that it failed.
        failed: bool,
    },
    /// It has or asks for more than is wanted, and a volume cannot shrink.
    Larger {
        /// The size that it has or will have.
        size: String,
    },
}

/// How `claim` stands to a wanted size.
pub fn standing(claim: &Value, wanted: &str) -> Standing {
    let text = |path: &str| claim.pointer(path).and_then(Value::as_str);
    let bound = text("/status/phase") == Some("Bound") && !is_being_deleted(claim);
    let (Some(has), Some(asks)) = (text("/status/capacity/storage"), text("/spec/resources/requests/storage")) else {
        return Standing::Unbound;
    };
    let (Some(size), Some(request), Some(wish)) = (thousandths(has), thousandths(asks), thousandths(wanted)) else {
        return Standing::Unbound;
    };
    if !bound {
        return Standing::Unbound;
    }
    let ask = |to: String| Standing::Ask { has: has.to_owned(), asks: asks.to_owned(), to, grows: wish > request };
    if wish > request {
        // A driver may round up: what it has is enough already.
        return if wish > size { ask(canonical(wanted)) } else { Standing::Fits };
    }
    if wish < request {
        // Kubernetes lets what was asked for be taken back to anything above what the volume has.
        let least = (size / MEBIBYTE + 1) * MEBIBYTE;
        let to = if wish > size { wish } else { least };
        return if request <= size || wish < size {
            Standing::Larger { size: if request > size { asks } else { has }.to_owned() }
        } else if to < request {
            ask(if wish > size { canonical(wanted) } else { canonical(&format!("{}Mi", least / MEBIBYTE)) })
        } else {
            growing(claim, has, asks)
        };
    }
    if size < request { growing(claim, has, asks) } else { Standing::Fits }
}

fn growing(claim: &Value, has: &str, asks: &str) -> Standing {
    let (how, failed) = progress(claim);
    Standing::Growing { has: has.to_owned(), asks: asks.to_owned(), how, failed }
}

/// What the driver of a claim that was asked to grow says of that, and whether it says that it failed.
pub fn progress(claim: &Value) -> (String, bool) {
    let conditions = claim.pointer("/status/conditions").and_then(Value::as_array);
    let said = |kinds: &[&str]| {
        let mut conditions = conditions.into_iter().flatten();
        let found = conditions.find(|condition| {
            condition["status"] == "True" && condition["type"].as_str().is_some_and(|kind| kinds.contains(&kind))
        })?;
        let kind = found["type"].as_str().unwrap_or_default();
        let message = found["message"].as_str().unwrap_or_default();
        let message: String = message.chars().take(TEXT_MAX).collect();
        Some(if message.is_empty() { kind.to_owned() } else { format!("{kind}: {message}") })
    };
    let failed = said(&FAILED);
    let how = failed.clone().or_else(|| said(&UNDER_WAY)).unwrap_or_else(|| "its driver has not begun".to_owned());
    (how, failed.is_some())
}

/// The size of a claim that has a volume.
pub fn size_of(claim: &Value) -> Option<&str> {
    let bound = claim.pointer("/status/phase").and_then(Value::as_str) == Some("Bound");
    claim.pointer("/status/capacity/storage").and_then(Value::as_str).filter(|_| bound)
}

/// `.status.volumes`: the sizes that the claims of a server have.
pub fn sizes<C: AsRef<Value>>(server: &str, claims: &[C]) -> Map<String, Value> {
    let mut sizes = Map::new();
    for volume in VOLUMES {
        let claim = claims.iter().map(AsRef::as_ref).find(|claim| is_claim_of(claim, server, volume));
        if let Some(size) = claim.and_then(size_of) {
            sizes.insert(volume.claim().to_owned(), json!(size));
        }
    }
    sizes
}

/// Whether `size` is more than `before`; two that cannot be read are not.
pub fn is_more(size: &str, before: &str) -> bool {
    matches!((thousandths(size), thousandths(before)), (Some(size), Some(before)) if size > before)
}

/// Why the StorageClass of a claim does not let it grow; None when it does. `class` as read, when it is there.
pub fn class_refuses(claim: &Value, class: Option<&Value>) -> Option<String> {
    let Some(name) = class_name(claim) else {
        return Some(format!("it has no StorageClass, so nothing lets its volume grow; {}", remedy(claim)));
    };
    match class {
        None => Some(format!("its StorageClass {name} is not there; create it again with allowVolumeExpansion: true")),
        Some(class) if class.get("allowVolumeExpansion") == Some(&json!(true)) => None,
        Some(_) => Some(format!(
            "its StorageClass {name} does not allow expansion; set allowVolumeExpansion: true on it if its driver can, or \
             {}",
            remedy(claim)
        )),
    }
}

/// What takes the wish back.
fn remedy(claim: &Value) -> String {
    let size = size_of(claim).unwrap_or_default();
    let volume = VOLUMES.into_iter().find(|volume| meta(claim, "name").starts_with(volume.claim()));
    let field = volume.map_or("", Volume::field);
    format!("set spec.storage.{field} back to {size}")
}

/// The StorageClass of a claim.
pub fn class_name(claim: &Value) -> Option<&str> {
    claim.pointer("/spec/storageClassName").and_then(Value::as_str).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::build::{TemplateInput, stateful_set};
    use crate::fixtures::{everything, server};

    fn claim(asks: &str, has: &str) -> Value {
        json!({
            "metadata": {"name": "metadata-files-0", "labels": {"app": "dittofs-server", "instance": "files"}},
            "spec": {"storageClassName": "fast", "resources": {"requests": {"storage": asks}}},
            "status": {"phase": "Bound", "capacity": {"storage": has}},
        })
    }

    fn ask(has: &str, asks: &str, to: &str, grows: bool) -> Standing {
        Standing::Ask { has: has.into(), asks: asks.into(), to: to.into(), grows }
    }

    #[test]
    fn a_claim_is_asked_for_more_than_it_has_and_never_for_less() {
        let larger = |size: &str| Standing::Larger { size: size.into() };
        for (asks, has, wanted, expected) in [
            ("10Gi", "10Gi", "10Gi", Standing::Fits),
            ("10Gi", "10Gi", "20Gi", ask("10Gi", "10Gi", "20Gi", true)),
            ("10Gi", "10Gi", "1Ti", ask("10Gi", "10Gi", "1Ti", true)),
            ("10Gi", "10Gi", "10240Mi", Standing::Fits),
            // A driver that rounds up.
            ("1500Mi", "2Gi", "1500Mi", Standing::Fits),
            ("1500Mi", "2Gi", "2Gi", Standing::Fits),
            ("1500Mi", "2Gi", "3Gi", ask("2Gi", "1500Mi", "3Gi", true)),
            // The wish grows once more, or is taken back, before the volume has grown.
            ("100Gi", "10Gi", "200Gi", ask("10Gi", "100Gi", "200Gi", true)),
            ("100Gi", "10Gi", "20Gi", ask("10Gi", "100Gi", "20Gi", false)),
            ("100Gi", "10Gi", "10Gi", ask("10Gi", "100Gi", "10241Mi", false)),
            // Lowered as far as it goes.
            (
                "10241Mi",
                "10Gi",
                "10Gi",
                Standing::Growing {
                    has: "10Gi".into(),
                    asks: "10241Mi".into(),
                    how: "its driver has not begun".into(),
                    failed: false,
                },
            ),
            // Grown, by us or by hand: less is not possible.
            ("50Gi", "50Gi", "10Gi", larger("50Gi")),
            ("100Gi", "50Gi", "10Gi", larger("100Gi")),
            ("ten", "10Gi", "20Gi", Standing::Unbound),
        ] {
            assert_eq!(standing(&claim(asks, has), wanted), expected, "{asks} {has} {wanted}");
        }
    }

    #[test]
    fn what_has_no_volume_or_goes_is_asked_for_nothing() {
        for change in [
            |claim: &mut Value| claim["status"]["phase"] = json!("Pending"),
            |claim: &mut Value| claim["status"]["phase"] = json!("Lost"),
            |claim: &mut Value| claim["status"]["capacity"] = Value::Null,
            |claim: &mut Value| claim["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"),
        ] {
            let mut claim = claim("10Gi", "10Gi");
            change(&mut claim);
            assert_eq!(standing(&claim, "20Gi"), Standing::Unbound);
        }
    }

    #[test]
    fn what_the_driver_says_is_told_its_failures_first() {
        let mut claim = claim("20Gi", "10Gi");
        let growing = |claim: &Value| match standing(claim, "20Gi") {
            Standing::Growing { how, failed, .. } => (how, failed),
            other => panic!("{other:?}"),
        };
        claim["status"]["conditions"] = json!([{"type": "FileSystemResizePending", "status": "True"}]);
        assert_eq!(growing(&claim), ("FileSystemResizePending".into(), false));
        claim["status"]["conditions"] = json!([
            {"type": "Resizing", "status": "True"},
            {"type": "ControllerResizeError", "status": "True", "message": "quota"}]);
        assert_eq!(growing(&claim), ("ControllerResizeError: quota".into(), true));
    }

    #[test]
    fn a_claim_is_known_by_name_and_labels() {
        assert!(is_claim_of(&claim("1Gi", "1Gi"), "files", Volume::Metadata));
        assert!(!is_claim_of(&claim("1Gi", "1Gi"), "files", Volume::Content));
        assert!(!is_claim_of(&claim("1Gi", "1Gi"), "other", Volume::Metadata));
        for label in ["app", "instance"] {
            let mut claim = claim("1Gi", "1Gi");
            claim["metadata"]["labels"][label] = json!("another");
            assert!(!is_claim_of(&claim, "files", Volume::Metadata), "{label}");
        }
        for (name, server) in [
            ("metadata-files-0", Some("files")),
            ("content-a-b-0", Some("a-b")),
            ("controlplane-metadata-0", Some("metadata")),
            ("backup-files-0", None),
            ("metadata-files-1", None),
            ("metadata--0", None),
            ("metadata-files", None),
        ] {
            assert_eq!(server_of_claim(name), server, "{name}");
        }
    }

    #[test]
    fn sizes_are_those_of_our_bound_claims() {
        let mine = claim("20Gi", "10Gi");
        let mut decoy = claim("90Gi", "90Gi");
        decoy["metadata"]["name"] = json!("content-files-0");
        decoy["metadata"]["labels"]["instance"] = json!("other");
        let mut pending = claim("5Gi", "5Gi");
        pending["metadata"]["name"] = json!("controlplane-files-0");
        pending["status"]["phase"] = json!("Pending");
        let all = [mine, decoy, pending].map(Arc::new);
        assert_eq!(Value::Object(sizes("files", &all)), json!({"metadata": "10Gi"}));
    }

    #[test]
    fn a_class_refuses_unless_it_says_that_it_allows() {
        let claim = claim("10Gi", "10Gi");
        assert_eq!(class_refuses(&claim, Some(&json!({"allowVolumeExpansion": true}))), None);
        let no = class_refuses(&claim, Some(&json!({}))).unwrap();
        assert!(no.contains("StorageClass fast") && no.contains("set spec.storage.metadataSize back to 10Gi"), "{no}");
        assert!(class_refuses(&claim, Some(&json!({"allowVolumeExpansion": false}))).is_some());
        assert!(class_refuses(&claim, None).unwrap().contains("is not there"));
        let mut none = claim;
        none["spec"]["storageClassName"] = json!("");
        assert!(class_refuses(&none, None).unwrap().contains("no StorageClass"));
    }

    #[test]
    fn the_claims_that_are_wanted_are_those_that_the_stateful_set_makes() {
        for server in [server("files").build(), everything("files")] {
            let set = stateful_set(&server, &TemplateInput { config_hash: "h", adapters: &[], partition: 0 });
            let set = serde_json::to_value(set).unwrap();
            for wish in wishes(&server) {
                assert_eq!(template_size(&set, wish.volume), Some(wish.size.as_str()));
            }
            let made = set["spec"]["volumeClaimTemplates"].as_array().unwrap().len();
            assert_eq!(wishes(&server).len(), made);
            assert_eq!(storage_changed(&server, &set), None);
        }
    }

    #[test]
    fn what_a_template_cannot_follow_is_told_and_sizes_are_not() {
        let was = everything("files");
        let set = stateful_set(&was, &TemplateInput { config_hash: "h", adapters: &[], partition: 0 });
        let set = serde_json::to_value(set).unwrap();
        let mut grown = was.clone();
        grown.storage.metadata = "9Ti".into();
        assert_eq!(storage_changed(&grown, &set), None);
        let mut without = was.clone();
        without.storage.content = None;
        let said = storage_changed(&without, &set).unwrap();
        assert!(said.contains("spec.storage.contentSize was 3Ti and is now unset"), "{said}");
        let mut other = was;
        other.storage.class = Some("slow".into());
        let said = storage_changed(&other, &set).unwrap();
        assert!(said.contains("spec.storage.storageClassName was fast and is now slow"), "{said}");
        let small = server("files").build();
        let set = stateful_set(&small, &TemplateInput { config_hash: "h", adapters: &[], partition: 0 });
        let mut with = small;
        with.storage.content = Some("1Gi".into());
        assert!(storage_changed(&with, &serde_json::to_value(set).unwrap()).is_some());
    }

    proptest! {
        /// Whatever is asked of a claim is more than it has, and asking comes to an end.
        #[test]
        fn a_claim_is_never_asked_to_shrink(has in 1_u32..5000, more in 0_u32..5000, wish in 1_u32..10_000) {
            let claim_of = |asks: &str| claim(asks, &canonical(&format!("{has}Mi")));
            let wanted = format!("{wish}Mi");
            if let Standing::Ask { to, .. } = standing(&claim_of(&canonical(&format!("{}Mi", has + more))), &wanted) {
                let more = is_more(&to, &format!("{has}Mi"));
                prop_assert!(more, "{} of {} MiB", to, has);
                let again = standing(&claim_of(&to), &wanted);
                let asked_again = matches!(again, Standing::Ask { .. });
                prop_assert!(!asked_again, "{:?}", again);
            }
        }
    }
}
