//! `spec.networkPolicy`: peers that name somebody, and blocks of addresses that are some.
//!
//! Selectors are checked for their form only: whether a label is one says the API server when the policy is written.

use core::net::IpAddr;

use k8s_openapi::api::networking::v1::{IPBlock, NetworkPolicyPeer};

use crate::crd::rules;
use crate::reconcile::NetworkPolicySettings;
use crate::reconcile::problem::{Field, Reader};

pub(super) fn read(read: &mut Reader, spec: &Field<'_>) -> NetworkPolicySettings {
    let policy = read.object(spec, "networkPolicy");
    let field = policy.child("from");
    let from: Vec<NetworkPolicyPeer> = read.typed(&field, "NetworkPolicyPeer list").unwrap_or_default();
    for peer in &from {
        let selects = peer.pod_selector.is_some() || peer.namespace_selector.is_some();
        match &peer.ip_block {
            None if !selects => read.note(&field.path, "a list with a peer with nothing in it", rules::PEER_REMEDY),
            Some(_) if selects => {
                read.note(&field.path, "a list with a peer with an ipBlock and a selector", rules::PEER_REMEDY);
            }
            Some(block) if !is_block(block) => {
                read.note(&field.path, format!("a list with the ipBlock {}", shown(block)), rules::CIDR_REMEDY);
            }
            _ => {}
        }
    }
    NetworkPolicySettings { enabled: read.boolean(&policy.child("enabled"), true), from }
}

fn shown(block: &IPBlock) -> String {
    let except = block.except.as_ref().map(|except| format!(" except {}", except.join(", ")));
    format!("{:?}{}", block.cidr, except.unwrap_or_default()).chars().take(200).collect()
}

/// A block of addresses whose exceptions lie within it and are smaller.
fn is_block(block: &IPBlock) -> bool {
    let Some((network, mask)) = cidr(&block.cidr) else { return false };
    block.except.iter().flatten().all(|except| {
        cidr(except).is_some_and(|(inner, longer)| {
            inner.is_ipv4() == network.is_ipv4() && longer > mask && prefix(inner, mask) == prefix(network, mask)
        })
    })
}

/// Address and length of its mask.
fn cidr(text: &str) -> Option<(IpAddr, u32)> {
    let (address, mask) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let digits = !mask.is_empty() && mask.bytes().all(|b| b.is_ascii_digit());
    let mask: u32 = mask.parse().ok().filter(|_| digits && (mask == "0" || !mask.starts_with('0')))?;
    (mask <= if address.is_ipv4() { 32 } else { 128 }).then_some((address, mask))
}

/// The first `length` bits.
fn prefix(address: IpAddr, length: u32) -> u128 {
    let (bits, width) = match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    };
    bits.checked_shr(width - length).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn judge(from: &Value) -> Result<Vec<NetworkPolicyPeer>, String> {
        let object = json!({"spec": {"networkPolicy": {"from": from}}});
        let mut reader = Reader::default();
        let settings = read(&mut reader, &Field::root(&object, "spec"));
        let problems = reader.into_problems();
        match problems.first() {
            None => Ok(settings.from),
            Some(problem) => Err(problem.to_string()),
        }
    }

    #[test]
    fn a_peer_is_somebody_and_a_block_stands_alone() {
        let good = json!([{"podSelector": {}}, {"namespaceSelector": {"matchLabels": {"a": "b"}}, "podSelector": {}},
                          {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}]);
        assert_eq!(judge(&good).map(|from| from.len()), Ok(3));
        for (bad, said) in [
            (json!([{}]), "nothing in it"),
            (json!([{"podSelector": {}}, {}]), "nothing in it"),
            (json!([{"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}}]), "an ipBlock and a selector"),
            (json!({"podSelector": {}}), "use the form of"),
        ] {
            let told = judge(&bad).expect_err("refused");
            assert!(told.contains("spec.networkPolicy.from") && told.contains(said), "{bad}: {told}");
        }
    }

    #[test]
    fn a_block_is_an_address_with_a_mask_and_its_exceptions_lie_within_it() {
        let block = |cidr: &str, except: &[&str]| {
            is_block(&IPBlock { cidr: cidr.into(), except: Some(except.iter().map(ToString::to_string).collect()) })
        };
        for (cidr, except) in [
            ("0.0.0.0/0", vec!["10.0.0.0/8"]),
            ("10.0.0.0/8", vec!["10.255.0.0/16", "10.1.2.3/32"]),
            ("fd00::/8", vec!["fd12::/16"]),
            ("::/0", vec![]),
        ] {
            assert!(block(cidr, &except), "{cidr} {except:?}");
        }
        for (cidr, except) in [
            ("", vec![]),
            ("10.0.0.0", vec![]),
            ("10.0.0.0/33", vec![]),
            ("10.0.0/8", vec![]),
            ("010.0.0.0/8", vec![]),
            ("10.0.0.0/08", vec![]),
            ("10.0.0.0/+8", vec![]),
            ("fd00::/129", vec![]),
            ("10.0.0.0/8", vec!["11.0.0.0/16"]),
            ("10.0.0.0/8", vec!["10.0.0.0/8"]),
            ("10.0.0.0/8", vec!["0.0.0.0/0"]),
            ("0.0.0.0/0", vec!["fd00::/8"]),
            ("10.0.0.0/8", vec!["10.1.0.0"]),
        ] {
            assert!(!block(cidr, &except), "{cidr} {except:?}");
        }
    }
}
