//! What the user may choose of a Service, and how a more specific place is merged over a common one.

use std::collections::BTreeMap;

/// Type of a Service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ServiceType {
    /// `ClusterIP`.
    ClusterIp,
    /// `NodePort`.
    NodePort,
    /// `LoadBalancer`.
    #[default]
    LoadBalancer,
}

impl ServiceType {
    /// The text that Kubernetes uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClusterIp => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
        }
    }
}

/// What the user may choose of a Service, merged from all places that speak of it. Each text was checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceSettings {
    /// `type`.
    pub service_type: ServiceType,
    /// Annotations to set; one that is taken out here is removed.
    pub annotations: BTreeMap<String, String>,
    /// Labels to set beside ours; one that is taken out here is removed.
    pub labels: BTreeMap<String, String>,
    /// `loadBalancerClass`; of no meaning but for a load balancer.
    pub load_balancer_class: Option<String>,
    /// `loadBalancerSourceRanges`, empty when unset; of no meaning but for a load balancer.
    pub load_balancer_source_ranges: Vec<String>,
    /// `externalTrafficPolicy`; of no meaning inside the cluster only.
    pub external_traffic_policy: Option<&'static str>,
    /// `ipFamilyPolicy`.
    pub ip_family_policy: Option<&'static str>,
    /// `ipFamilies`, empty when unset.
    pub ip_families: Vec<&'static str>,
}

/// What one place of the spec says of a Service: whatever is None is left to the place that it is merged over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ServicePlace {
    pub(super) service_type: Option<ServiceType>,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) load_balancer_class: Option<String>,
    pub(super) load_balancer_source_ranges: Option<Vec<String>>,
    pub(super) external_traffic_policy: Option<&'static str>,
    pub(super) ip_family_policy: Option<&'static str>,
    pub(super) ip_families: Option<Vec<&'static str>>,
}

impl ServicePlace {
    /// Merged over a more common place: single values and lists replace, of maps each key does.
    pub(super) fn over(&self, common: &Self) -> Self {
        let both = |ours: &BTreeMap<String, String>, theirs: &BTreeMap<String, String>| {
            let mut map = theirs.clone();
            map.extend(ours.clone());
            map
        };
        Self {
            service_type: self.service_type.or(common.service_type),
            annotations: both(&self.annotations, &common.annotations),
            labels: both(&self.labels, &common.labels),
            load_balancer_class: self.load_balancer_class.clone().or_else(|| common.load_balancer_class.clone()),
            load_balancer_source_ranges: self
                .load_balancer_source_ranges
                .clone()
                .or_else(|| common.load_balancer_source_ranges.clone()),
            external_traffic_policy: self.external_traffic_policy.or(common.external_traffic_policy),
            ip_family_policy: self.ip_family_policy.or(common.ip_family_policy),
            ip_families: self.ip_families.clone().or_else(|| common.ip_families.clone()),
        }
    }

    /// What comes of it. Of two families that a common place names, a more specific `SingleStack` leaves the first.
    pub(super) fn settle(self) -> ServiceSettings {
        let mut families = self.ip_families.unwrap_or_default();
        if self.ip_family_policy == Some("SingleStack") {
            families.truncate(1);
        }
        ServiceSettings {
            service_type: self.service_type.unwrap_or_default(),
            annotations: self.annotations,
            labels: self.labels,
            load_balancer_class: self.load_balancer_class,
            load_balancer_source_ranges: self.load_balancer_source_ranges.unwrap_or_default(),
            external_traffic_policy: self.external_traffic_policy,
            ip_family_policy: self.ip_family_policy,
            ip_families: families,
        }
    }

    /// The fields set here that do nothing on Services of these types.
    fn idle_on(&self, types: &[ServiceType]) -> Vec<&'static str> {
        let balanced = types.contains(&ServiceType::LoadBalancer);
        let published = types.iter().any(|kind| *kind != ServiceType::ClusterIp);
        let ranges = self.load_balancer_source_ranges.as_ref().is_some_and(|ranges| !ranges.is_empty());
        [
            ("loadBalancerClass", self.load_balancer_class.is_some() && !balanced),
            ("loadBalancerSourceRanges", ranges && !balanced),
            ("externalTrafficPolicy", self.external_traffic_policy.is_some() && !published),
        ]
        .into_iter()
        .filter_map(|(field, idle)| idle.then_some(field))
        .collect()
    }
}

/// Fields of one place that are set and have no effect on any Service that the place speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdleFields {
    /// The place, such as `spec.fileService`.
    pub place: String,
    /// The type of those Services, the first's where they differ.
    pub service_type: ServiceType,
    /// The fields, in the order of the spec.
    pub fields: Vec<&'static str>,
}

impl IdleFields {
    /// What `said` at `place` does nothing on Services of `types`; None when all has an effect, or there is no Service.
    pub(super) fn of(place: impl Into<String>, said: &ServicePlace, types: &[ServiceType]) -> Option<Self> {
        let service_type = *types.first()?;
        let fields = said.idle_on(types);
        (!fields.is_empty()).then(|| Self { place: place.into(), service_type, fields })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn common() -> ServicePlace {
        ServicePlace {
            service_type: Some(ServiceType::NodePort),
            annotations: map(&[("a", "common"), ("b", "common")]),
            labels: map(&[("l", "common"), ("m", "common")]),
            load_balancer_class: Some("common".to_owned()),
            load_balancer_source_ranges: Some(vec!["192.0.2.0/24".to_owned()]),
            external_traffic_policy: Some("Local"),
            ip_family_policy: Some("PreferDualStack"),
            ip_families: Some(vec!["IPv6", "IPv4"]),
        }
    }

    #[test]
    fn what_a_place_leaves_out_comes_from_the_common_one() {
        assert_eq!(ServicePlace::default().over(&common()), common());
        assert_eq!(common().over(&ServicePlace::default()), common());
        assert_eq!(ServicePlace::default().settle(), ServiceSettings::default());
        assert_eq!(ServiceSettings::default().service_type, ServiceType::LoadBalancer);
    }

    #[test]
    fn single_values_and_lists_replace_and_maps_are_merged_by_key() {
        let own = ServicePlace {
            service_type: Some(ServiceType::LoadBalancer),
            annotations: map(&[("b", "own"), ("c", "own")]),
            labels: map(&[("m", "own"), ("n", "own")]),
            load_balancer_class: Some("own".to_owned()),
            load_balancer_source_ranges: Some(vec![]),
            external_traffic_policy: Some("Cluster"),
            ip_family_policy: Some("RequireDualStack"),
            ip_families: Some(vec!["IPv4"]),
        };
        let merged = own.over(&common()).settle();
        assert_eq!(merged.service_type, ServiceType::LoadBalancer);
        assert_eq!(merged.annotations, map(&[("a", "common"), ("b", "own"), ("c", "own")]));
        assert_eq!(merged.labels, map(&[("l", "common"), ("m", "own"), ("n", "own")]));
        assert_eq!(merged.load_balancer_class.as_deref(), Some("own"));
        assert_eq!(merged.load_balancer_source_ranges, [""; 0], "an empty list takes the common one away");
        assert_eq!(merged.external_traffic_policy, Some("Cluster"));
        assert_eq!((merged.ip_family_policy, merged.ip_families), (Some("RequireDualStack"), vec!["IPv4"]));
    }

    #[test]
    fn a_single_stack_over_two_common_families_keeps_the_first() {
        let own = ServicePlace { ip_family_policy: Some("SingleStack"), ..ServicePlace::default() };
        assert_eq!(own.over(&common()).settle().ip_families, ["IPv6"]);
    }

    #[test]
    fn a_field_is_idle_where_no_type_permits_it() {
        use ServiceType::{ClusterIp, LoadBalancer, NodePort};
        let (class, ranges, policy) = ("loadBalancerClass", "loadBalancerSourceRanges", "externalTrafficPolicy");
        let idle = |types: &[ServiceType]| IdleFields::of("p", &common(), types).map(|idle| idle.fields);
        assert_eq!(idle(&[LoadBalancer]), None);
        assert_eq!(idle(&[NodePort]), Some(vec![class, ranges]));
        assert_eq!(idle(&[ClusterIp]), Some(vec![class, ranges, policy]));
        assert_eq!(idle(&[ClusterIp, NodePort]), Some(vec![class, ranges]));
        assert_eq!(idle(&[ClusterIp, LoadBalancer]), None);
        assert_eq!(idle(&[]), None, "no Service");
        let none = ServicePlace { load_balancer_source_ranges: Some(vec![]), ..ServicePlace::default() };
        assert_eq!(IdleFields::of("p", &none, &[ClusterIp]), None);
    }
}
