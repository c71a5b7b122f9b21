//! The places of the spec that speak of Services: read, checked as the CEL rules check them, and merged.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::super::problem::{Field, Reader, shown};
use super::super::service_settings::ServicePlace;
use super::super::{IdleFields, LAST_APPLIED, ServiceSettings, ServiceType};
use crate::crd::service_rules as rules;

const TYPES: [(&str, Option<ServiceType>); 3] = [
    ("ClusterIP", Some(ServiceType::ClusterIp)),
    ("NodePort", Some(ServiceType::NodePort)),
    ("LoadBalancer", Some(ServiceType::LoadBalancer)),
];

/// All that the spec says of Services.
pub(super) struct Services {
    pub(super) adapters: ServiceSettings,
    pub(super) per_adapter: BTreeMap<String, ServiceSettings>,
    pub(super) api: ServiceSettings,
    pub(super) api_type_field: &'static str,
    pub(super) file: ServiceSettings,
    pub(super) file_enabled: bool,
    pub(super) idle: Vec<IdleFields>,
}

pub(super) fn services(read: &mut Reader, spec: &Field<'_>) -> Services {
    let field = read.object(spec, "adapterServices");
    let adapters = place(read, &field);
    let own = per_adapter(read, &field);

    let field = read.object(spec, "service");
    let service = place(read, &field);
    let field = read.object(spec, "fileService");
    let file_enabled = read.boolean(&field.child("enabled"), true);
    let file = place(read, &field);
    let field = read.object(spec, "apiService");
    let api = place(read, &field);

    let type_of = |own: &ServicePlace, common: &ServicePlace| own.over(common).service_type.unwrap_or_default();
    let mut adapter_types = vec![adapters.service_type.unwrap_or_default()];
    adapter_types.extend(own.values().map(|own| type_of(own, &adapters)));
    let (api_type, file_type) = (type_of(&api, &service), type_of(&file, &service));
    let file_types = if file_enabled { vec![file_type] } else { vec![] };
    let service_types = [&[api_type][..], &file_types].concat();
    let mut idle = vec![IdleFields::of("spec.adapterServices", &adapters, &adapter_types)];
    idle.extend(own.iter().map(|(adapter, own)| {
        IdleFields::of(format!("spec.adapterServices.perAdapter.{adapter}"), own, &[type_of(own, &adapters)])
    }));
    idle.extend([
        IdleFields::of("spec.service", &service, &service_types),
        IdleFields::of("spec.fileService", &file, &file_types),
        IdleFields::of("spec.apiService", &api, &[api_type]),
    ]);
    let api_type_field = if api.service_type.is_some() { "spec.apiService.type" } else { "spec.service.type" };
    Services {
        api_type_field,
        per_adapter: own.into_iter().map(|(adapter, own)| (adapter, own.over(&adapters).settle())).collect(),
        adapters: adapters.settle(),
        api: api.over(&service).settle(),
        file: file.over(&service).settle(),
        file_enabled,
        idle: idle.into_iter().flatten().collect(),
    }
}

fn per_adapter(read: &mut Reader, adapters: &Field<'_>) -> BTreeMap<String, ServicePlace> {
    let field = read.object(adapters, "perAdapter");
    let entries = field.value.and_then(Value::as_object).into_iter().flatten();
    let all: Vec<(&String, &Value)> = entries.filter(|(_, value)| !value.is_null()).collect();
    at_most(read, &field, all.len(), rules::PER_ADAPTER_MAX);
    let mut places = BTreeMap::new();
    for (adapter, _) in all {
        if !(1..=63).contains(&adapter.len()) || !adapter.bytes().all(|b| b.is_ascii_graphic()) {
            read.note(
                &field.path,
                format!("an object with {}", shown(&adapter.as_str().into())),
                rules::ADAPTER_TYPE_REMEDY,
            );
        }
        let own = read.object(&field, adapter);
        places.insert(adapter.clone(), place(read, &own));
    }
    places
}

fn place(read: &mut Reader, field: &Field<'_>) -> ServicePlace {
    let same = |name: &'static str| (name, Some(name));
    let policy = field.child("ipFamilyPolicy");
    let said = ServicePlace {
        service_type: read.choice(&field.child("type"), None, &TYPES),
        annotations: annotations(read, &field.child("annotations")),
        labels: labels(read, &field.child("labels")),
        load_balancer_class: read.optional_text(&field.child("loadBalancerClass"), rules::CLASS_REMEDY, is_key),
        load_balancer_source_ranges: source_ranges(read, &field.child("loadBalancerSourceRanges")),
        external_traffic_policy: read.choice(
            &field.child("externalTrafficPolicy"),
            None,
            &["Cluster", "Local"].map(same),
        ),
        ip_family_policy: read.choice(&policy, None, &["SingleStack", "PreferDualStack", "RequireDualStack"].map(same)),
        ip_families: families(read, &field.child("ipFamilies")),
    };
    let two = said.ip_families.as_ref().is_some_and(|families| families.len() > 1);
    if two && said.ip_family_policy.is_none_or(|policy| policy == "SingleStack") {
        let is = said.ip_family_policy.unwrap_or("unset");
        read.note(&policy.path, format!("{is} while ipFamilies has two"), rules::DUAL_STACK_REMEDY);
    }
    said
}

fn at_most(read: &mut Reader, field: &Field<'_>, count: usize, most: usize) {
    if count > most {
        read.note(&field.path, format!("{count} of them"), format!("use at most {most}"));
    }
}

fn labels(read: &mut Reader, field: &Field<'_>) -> BTreeMap<String, String> {
    let labels = read.map(field);
    at_most(read, field, labels.len(), rules::MAP_MAX);
    for (key, value) in &labels {
        if !is_key(key) || !(value.is_empty() || is_name(value)) {
            read.note(&format!("{}[{key}]", field.path), shown(&value.as_str().into()), rules::LABEL_REMEDY);
        }
        if rules::OWN_LABELS.contains(&key.as_str()) || key.starts_with(rules::OWN_LABEL_PREFIX) {
            read.note(&format!("{}[{key}]", field.path), "set", rules::OWN_KEY_REMEDY);
        }
    }
    labels
}

fn annotations(read: &mut Reader, field: &Field<'_>) -> BTreeMap<String, String> {
    let annotations = read.map(field);
    at_most(read, field, annotations.len(), rules::MAP_MAX);
    for key in annotations.keys() {
        if !is_key(&key.to_ascii_lowercase()) {
            read.note(&field.path, format!("an object with {}", shown(&key.as_str().into())), rules::ANNOTATION_REMEDY);
        }
        if key == LAST_APPLIED {
            read.note(&format!("{}[{key}]", field.path), "set", rules::OWN_KEY_REMEDY);
        }
    }
    let size: usize = annotations.iter().map(|(key, value)| key.chars().count() + value.chars().count()).sum();
    if size > rules::ANNOTATIONS_MAX {
        read.note(&field.path, format!("{size} characters"), rules::ANNOTATIONS_SIZE_REMEDY);
    }
    annotations
}

fn source_ranges(read: &mut Reader, field: &Field<'_>) -> Option<Vec<String>> {
    let texts = list(read, field)?;
    at_most(read, field, texts.len(), rules::SOURCE_RANGES_MAX);
    Some(texts.iter().filter_map(|item| read.optional_text(item, rules::SOURCE_RANGE_REMEDY, is_network)).collect())
}

fn families(read: &mut Reader, field: &Field<'_>) -> Option<Vec<&'static str>> {
    let items = list(read, field)?;
    let same = |name: &'static str| (name, Some(name));
    let families: Vec<&'static str> =
        items.iter().filter_map(|item| read.choice(item, None, &["IPv4", "IPv6"].map(same))).collect();
    let distinct: BTreeSet<&str> = families.iter().copied().collect();
    if distinct.len() < families.len() {
        read.note(&field.path, format!("{} twice", families[0]), rules::FAMILIES_REMEDY);
    }
    Some(families)
}

/// The items of a list, each with its own path.
fn list<'a>(read: &mut Reader, field: &Field<'a>) -> Option<Vec<Field<'a>>> {
    let Some(items) = field.value?.as_array() else {
        read.note(&field.path, field.value.map(shown).unwrap_or_default(), "use a list");
        return None;
    };
    let item = |(at, value)| Field { path: format!("{}[{at}]", field.path), value: Some(value) };
    Some(items.iter().enumerate().map(item).collect())
}

/// The key of a label: an optional DNS domain with a slash, and a name.
fn is_key(text: &str) -> bool {
    let (domain, name) = text.split_once('/').map_or((None, text), |(domain, name)| (Some(domain), name));
    let is_part = |part: &str| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        !part.is_empty() && part.bytes().all(inner) && !part.starts_with('-') && !part.ends_with('-')
    };
    let is_domain = |domain: &str| domain.len() <= rules::DOMAIN_MAX && domain.split('.').all(is_part);
    is_name(name) && domain.is_none_or(is_domain)
}

fn is_name(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= 63 && bytes.iter().copied().all(inner) && edge(bytes.first()) && edge(bytes.last())
}

/// A network in CIDR form with no bits behind its prefix.
fn is_network(text: &str) -> bool {
    let Some((address, prefix)) = text.split_once('/') else { return false };
    let plain = prefix == "0" || (!prefix.starts_with('0') && prefix.bytes().all(|b| b.is_ascii_digit()));
    let (Ok(address), Ok(prefix), true) = (address.parse::<IpAddr>(), prefix.parse::<u32>(), plain) else {
        return false;
    };
    let behind =
        |bits: u128, width: u32| prefix <= width && (prefix == width || bits << (u128::BITS - width) << prefix == 0);
    match address {
        IpAddr::V4(v4) => behind(v4.to_bits().into(), 32),
        IpAddr::V6(v6) => v6.to_ipv4_mapped().is_none() && behind(v6.to_bits(), 128),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_told_from_everything_else() {
        for good in
            ["0.0.0.0/0", "::/0", "192.0.2.0/24", "192.0.2.7/32", "10.0.0.0/8", "2001:db8::/32", "2001:db8::1/128"]
        {
            assert!(is_network(good), "{good}");
        }
        for bad in [
            "",
            "/",
            "10.0.0.0",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.1/8",
            "010.0.0.0/8",
            "10.0.0.0/08",
            "10.0.0.0/+8",
            "10.0/8",
            "2001:db8::1/32",
            "::/129",
            "::ffff:10.0.0.0/104",
            " 10.0.0.0/8",
            "fe80::%eth0/64",
            "0.0.0.1/0",
        ] {
            assert!(!is_network(bad), "{bad}");
        }
    }

    #[test]
    fn keys_are_told_from_everything_else() {
        let long = "n".repeat(63);
        let domain = format!("{}.example", "d".repeat(245));
        for good in ["a", "A.b_c-d", "example.com/a", "1.2/x", &long, &format!("{domain}/{long}")] {
            assert!(is_key(good), "{good}");
        }
        for bad in [
            "",
            "-a",
            "a-",
            "a b",
            "/a",
            "a/",
            "a/b/c",
            "Ex.com/a",
            "a..b/c",
            "ü",
            &format!("{long}n"),
            &format!("d{domain}/a"),
        ] {
            assert!(!is_key(bad), "{bad}");
        }
    }
}
