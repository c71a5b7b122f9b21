//! The CEL rules of the schema. A message names the field, the value and what to do about it.
//!
//! What every rule keeps to, because the API server demands it:
//!
//! * it cannot fail to evaluate, whatever an older CRD let through: `has()` guards each optional field, `matches()`
//!   stands before every conversion. An evaluation error would refuse even a status write;
//! * below `spec` it does not say `oldSelf` unless it holds for an object that stays as it is;
//! * whatever it reads is bounded in length, so that the estimated cost stays within the API server's budget. A number
//!   goes into a message by `format()`: the length of `string(number)` counts as unbounded.
//!
//! The remedies are also those of [`crate::reconcile::validate`]: a user reads the same words from both.

use kube::core::{Message, Reason, Rule};

use super::defaults;
use crate::reconcile::Names;

/// A Go duration, as a regular expression. Every number is bounded so that `duration()` cannot overflow: six parts
/// of at most 167 thousand hours each are less than the 2.5 million hours that fit.
const GO_DURATION: &str = "^[-+]?(0|([0-9]{1,5}([.][0-9]*)?h|[0-9]{1,7}([.][0-9]*)?[ms]|\
    [0-9]{1,12}([.][0-9]*)?(ms|us|µs|μs|ns)|[.][0-9]+(h|m|s|ms|us|µs|μs|ns)){1,6})$";

/// A claim's size above 0 and below one exbibyte.
const CLAIM_SIZE: &str = "^0*([1-9][0-9]{0,11}Mi|[1-9][0-9]{0,8}Gi|[1-9][0-9]{0,5}Ti)$";

/// A whole number of bytes above 0 and below about one exbibyte. Without fractions: CEL's `isInteger()` says no to
/// 1.5Gi, which is a whole number of bytes.
const BYTES: &str = "^0*([1-9][0-9]{0,17}|[1-9][0-9]{0,14}(k|Ki)|[1-9][0-9]{0,11}(M|Mi)|[1-9][0-9]{0,8}(G|Gi)|\
    [1-9][0-9]{0,5}(T|Ti)|[1-9][0-9]{0,2}(P|Pi))$";

/// A Service name: a DNS-1035 label.
const DNS_1035: &str = "^[a-z]([-a-z0-9]*[a-z0-9])?$";

/// An LDAP URL with a host.
const LDAP_URL: &str = "^[lL][dD][aA][pP][sS]?://[^ /\\\\t\\\\r\\\\n][^ \\\\t\\\\r\\\\n]*$";

/// What to do about a name that does not fit.
pub const NAME_REMEDY: &str = "use lowercase letters, digits and dashes, a letter first, no dash last";
/// What to do about a name that leaves no room for those of Percona's operator.
pub const PERCONA_NAME_REMEDY: &str = "give the server a shorter name, or disable spec.percona and name the Secret of another \
    database in spec.database.postgresSecretRef";
/// What to do about a missing spec.
pub const SPEC_REMEDY: &str = "set at least spec.storage.metadataSize";
/// What to do about a claim's size.
pub const CLAIM_SIZE_REMEDY: &str = "use a whole number above 0 with Mi, Gi or Ti and below 1048576Ti, such as 10Gi";
/// What to do about a cache size.
pub const CACHE_SIZE_REMEDY: &str = "use a whole number above 0, with a suffix such as in 512Mi or 10Gi";
/// What to do about a duration.
pub const DURATION_REMEDY: &str = "use a Go duration such as 30s, 500ms or 1h30m";
/// What to do about a polling interval.
pub const POLLING_REMEDY: &str = "use a Go duration of at least 1s, such as 30s";
/// What to do about two equal ports.
pub const PORTS_REMEDY: &str = "give nfs, smb, the API and the metrics endpoint different ports";
/// What to do about a missing Secret of Postgres.
pub const POSTGRES_REMEDY: &str = "name the Secret with the connection in spec.database.postgresSecretRef.name, enable \
    spec.percona, or use type sqlite";
/// What to do about TLS without a certificate.
pub const TLS_REMEDY: &str =
    "name the Secret with tls.crt and tls.key in spec.controlPlane.certSecretName, or set tls to false";
/// What to do about a blank text.
pub const BLANK_REMEDY: &str = "give a value without blanks, or leave the field out for its default";
/// What to do about a path.
pub const PATH_REMEDY: &str = "use an absolute path of letters, digits, dots, dashes and underscores, without '..'";
/// What to do about a path that collides with another mount.
pub const MOUNT_REMEDY: &str = "choose a path that neither contains nor lies in another directory of the server";
/// What to do about a Secret's key.
pub const SECRET_KEY_REMEDY: &str = "name the key of the Secret with letters, digits, dots, dashes and underscores";
/// What to do about an environment variable that is ours.
pub const ENV_REMEDY: &str = "leave it out: the operator sets it itself";
/// What to do about the address of a directory.
pub const LDAP_URL_REMEDY: &str =
    "use ldaps:// or ldap:// and the directory's host, such as ldaps://dc.example.com:636";
/// What to do about an empty distinguished name.
pub const LDAP_NAME_REMEDY: &str = "give a distinguished name, such as DC=example,DC=com, or disable LDAP";
/// What to do about the name of a share.
pub const SHARE_REMEDY: &str = "name the share as the server does, such as /archive, without control characters";
/// What to do about the time between two snapshots.
pub const SNAPSHOT_INTERVAL_REMEDY: &str =
    "use a Go duration above 0 such as 6h or 24h, or one of @hourly, @daily, @weekly";
/// What to do about the age of snapshots.
pub const SNAPSHOT_TTL_REMEDY: &str = "use a Go duration such as 720h, or leave it out to keep snapshots for ever";
/// What to do about the beginning of snapshots' names.
pub const NAME_PREFIX_REMEDY: &str = "use at most 64 letters, digits, dashes and underscores";
/// What to do about two policies of one share.
pub const ONE_POLICY_REMEDY: &str = "give each share one policy; /archive and archive are the same share";
/// Words for the time between two snapshots, beside durations.
pub const SNAPSHOT_WORDS: [&str; 3] = ["@hourly", "@daily", "@weekly"];
/// Most policies of one server: what the rule about their shares may cost.
pub const POLICIES_MAX: usize = 100;
/// Longest name of a share, in characters.
pub const SHARE_MAX: usize = 255;
/// What to do about a change of storage.
pub const STORAGE_REMEDY: &str =
    "storage cannot change after creation; set the old value again, or create another DittoServer";
/// What to do about a size that is less than a volume has.
pub const VOLUME_REMEDY: &str = "a volume cannot shrink; set that size or a larger one";

/// What to do about a peer that names nobody, or too much at once.
pub const PEER_REMEDY: &str = "give each peer a podSelector, a namespaceSelector or both, or an ipBlock alone; {} \
     selects all, and without spec.networkPolicy.from everybody is let in";
/// What to do about the interval of a ServiceMonitor.
pub const PROMETHEUS_DURATION_REMEDY: &str = "use a Prometheus duration such as 30s, 1m or 1h30m";
/// What to do about a CIDR.
pub const CIDR_REMEDY: &str = "use an address and a mask such as 10.0.0.0/8, and exceptions that lie within it";

/// Environment variables that the operator sets itself.
pub const OWN_ENV: [&str; 4] = [
    "DITTOFS_CONTROLPLANE_SECRET",
    "DITTOFS_ADMIN_INITIAL_PASSWORD",
    "DITTOFS_LDAP_BIND_PASSWORD",
    "DITTOFS_KERBEROS_MACHINE_ACCOUNT_SECRET",
];
/// Prefix of further environment variables that the operator sets itself.
pub const OWN_ENV_PREFIX: &str = "DITTOFS_DATABASE_POSTGRES_";
/// Directories of the container that the content volume must stay clear of.
pub const TAKEN_PATHS: [&str; 9] = [
    "/app",
    "/config",
    "/data/controlplane",
    "/data/store/metadata",
    "/kerberos",
    "/kerberos-krb5",
    "/kerberos-machine",
    "/ldap-ca",
    "/metrics-token",
];

/// Directories of the container that TLS takes.
pub const TLS_PATHS: [&str; 2] = ["/tls", "/tls-client-ca"];

/// The ports that must differ from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// `spec.ports.nfs`.
    Nfs,
    /// `spec.ports.smb`.
    Smb,
    /// `spec.controlPlane.port`.
    Api,
    /// `spec.metrics.port`, which counts only when metrics are enabled.
    Metrics,
}

impl Port {
    /// Path of the field below `spec`.
    pub fn field(self) -> &'static str {
        match self {
            Self::Nfs => "ports.nfs",
            Self::Smb => "ports.smb",
            Self::Api => "controlPlane.port",
            Self::Metrics => "metrics.port",
        }
    }

    fn default(self) -> i32 {
        match self {
            Self::Nfs => defaults::NFS_PORT,
            Self::Smb => defaults::SMB_PORT,
            Self::Api => defaults::API_PORT,
            Self::Metrics => defaults::METRICS_PORT,
        }
    }

    /// A CEL expression for the port's value, at `spec`.
    fn value(self) -> String {
        let field = self.field();
        let parent = field.split('.').next().unwrap_or(field);
        format!("(has(self.{parent}) && has(self.{field}) ? self.{field} : {})", self.default())
    }
}

/// A volume whose size may grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Volume {
    /// Claim `metadata`.
    Metadata,
    /// Claim `content`.
    Content,
    /// Claim `controlplane`.
    ControlPlane,
}

impl Volume {
    /// The claim: its name in the StatefulSet, and its key in `status.volumes`.
    pub fn claim(self) -> &'static str {
        match self {
            Self::Metadata => "metadata",
            Self::Content => "content",
            Self::ControlPlane => "controlplane",
        }
    }

    /// The field below `spec.storage` with its size.
    pub fn field(self) -> &'static str {
        match self {
            Self::Metadata => "metadataSize",
            Self::Content => "contentSize",
            Self::ControlPlane => "controlPlaneSize",
        }
    }
}

fn rule(expression: impl Into<String>, message: impl Into<String>) -> Rule {
    Rule::new(expression).message(Message::Expression(message.into()))
}

/// `'<field> is "' + self + '": <remedy>'`.
fn says(field: &str, remedy: &str) -> String {
    format!("'{field} is \"' + self + '\": {}'", remedy.replace('\'', "\\'"))
}

/// At the root, at creation only: every object name fits and the name is a valid Service name.
pub fn server_name() -> Rule {
    let max = Names::CR_NAME_MAX;
    rule(
        format!(
            "oldSelf.hasValue() || (size(self.metadata.name) <= {max} && self.metadata.name.matches('{DNS_1035}'))"
        ),
        format!(
            "'metadata.name is \"%s\" (%d characters): {NAME_REMEDY}, at most {max} characters, so that the names of its \
             objects fit'.format([self.metadata.name, size(self.metadata.name)])"
        ),
    )
    .optional_old_self(true)
}

/// At the root, when Percona is enabled and was not before: the names that Percona's operator derives fit. A server of
/// old that has a database already takes every other write.
pub fn percona_name() -> Rule {
    let max = Names::PERCONA_CR_NAME_MAX;
    let enabled = |object: &str| {
        format!(
            "has({object}.spec) && has({object}.spec.percona) && has({object}.spec.percona.enabled) && \
             {object}.spec.percona.enabled"
        )
    };
    rule(
        format!(
            "size(self.metadata.name) <= {max} || !({}) || (oldSelf.hasValue() && {})",
            enabled("self"),
            enabled("oldSelf.value()")
        ),
        format!(
            "'metadata.name is \"%s\" (%d characters) and spec.percona.enabled is true: {PERCONA_NAME_REMEDY}; at most {max} \
             characters fit the names that Percona\\'s operator makes of it'.format([self.metadata.name, \
             size(self.metadata.name)])"
        ),
    )
    .optional_old_self(true)
}

/// At the root: a spec is needed at creation and cannot be taken away, which would be a way around immutability.
pub fn spec_present() -> Rule {
    Rule::new("has(self.spec) || (oldSelf.hasValue() && !has(oldSelf.value().spec))")
        .message(format!("spec is missing: {SPEC_REMEDY}").as_str())
        .reason(Reason::FieldValueRequired)
        .optional_old_self(true)
}

/// Two ports differ. The metrics port counts only when metrics are enabled. The reason is the general one: with
/// `FieldValueDuplicate` the API server does not tell the message.
pub fn ports_differ(one: Port, other: Port) -> Rule {
    let guard = if one == Port::Metrics || other == Port::Metrics {
        "!has(self.metrics) || !has(self.metrics.enabled) || !self.metrics.enabled || "
    } else {
        ""
    };
    rule(
        format!("{guard}{} != {}", one.value(), other.value()),
        format!(
            "'spec.{} and spec.{} are both %d: {PORTS_REMEDY}'.format([{}])",
            one.field(),
            other.field(),
            one.value()
        ),
    )
    .field_path(format!(".{}", one.field()))
}

/// One field of an object keeps the value that it had at creation. The API server has filled in defaults on both
/// sides by then, so a default that an older object lacks is no change.
pub fn immutable(parent: &str, field: &str) -> Rule {
    let text = |object: &str| format!("(has({object}.{field}) ? '\"' + {object}.{field} + '\"' : 'unset')");
    rule(
        format!("has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})"),
        format!(
            "'{parent}.{field} was ' + {} + ' and is now ' + {} + ': {STORAGE_REMEDY}'",
            text("oldSelf"),
            text("self")
        ),
    )
    .reason(Reason::FieldValueForbidden)
    .field_path(format!(".{field}"))
}

/// A field stays set, or unset.
pub fn stays_set(parent: &str, field: &str) -> Rule {
    let text = |object: &str| format!("(has({object}.{field}) ? '\"' + {object}.{field} + '\"' : 'unset')");
    rule(
        format!("has(self.{field}) == has(oldSelf.{field})"),
        format!(
            "'{parent}.{field} was ' + {} + ' and is now ' + {} + ': {STORAGE_REMEDY}'",
            text("oldSelf"),
            text("self")
        ),
    )
    .reason(Reason::FieldValueForbidden)
    .field_path(format!(".{field}"))
}

/// At the root: a size that changes is not less than the claim has (`status.volumes`), or, when that is not known, than
/// it was. It looks at a change only: a claim that somebody let grow by hand has more than the spec says, and a status
/// or a finalizer must be written all the same. What cannot be read as a size is left to the field's own rule. A plain
/// `oldSelf`, which keeps the rule to updates: behind `oldSelf.value()` the API server takes every text for unbounded.
pub fn volume_keeps(volume: Volume) -> Rule {
    let (field, claim) = (volume.field(), volume.claim());
    let has = |object: &str| {
        format!("has({object}.spec) && has({object}.spec.storage) && has({object}.spec.storage.{field})")
    };
    let (old, new) = (format!("oldSelf.spec.storage.{field}"), format!("self.spec.storage.{field}"));
    let known = format!(
        "has(self.status) && has(self.status.volumes) && has(self.status.volumes.{claim}) && \
         isQuantity(self.status.volumes.{claim})"
    );
    let less = |than: &str| format!("quantity({new}).isLessThan(quantity({than}))");
    let has_it = format!("self.status.volumes.{claim}");
    Rule::new(format!(
        "!({}) || !({}) || {new} == {old} || !isQuantity({new}) || ({known} ? !{} : \
         !isQuantity({old}) || !{})",
        has("self"),
        has("oldSelf"),
        less(&has_it),
        less(&old),
    ))
    .message(Message::Expression(format!(
        "'spec.storage.{field} is \"' + {new} + '\" and its volume has ' + ({known} ? {has_it} : 'been given ' + {old}) \
         + ': {VOLUME_REMEDY}'"
    )))
    .reason(Reason::FieldValueForbidden)
    .field_path(format!(".spec.storage.{field}"))
}

/// A claim's size is not 0 and fits.
pub fn claim_size(field: &str) -> Rule {
    rule(format!("self.matches('{CLAIM_SIZE}')"), says(field, CLAIM_SIZE_REMEDY))
}

/// A whole number of bytes above 0 that fits 63 bits.
pub fn cache_size(field: &str) -> Rule {
    rule(format!("self.matches('{BYTES}')"), says(field, CACHE_SIZE_REMEDY))
}

/// An absolute path without `..`.
pub fn absolute_path(field: &str) -> Rule {
    rule(format!("self.matches('{PATH}') && !self.contains('..')"), says(field, PATH_REMEDY))
}

/// An absolute path of one or more plain components.
const PATH: &str = "^(/[A-Za-z0-9._-]+)+$";

/// An absolute path that stays clear of the server's other directories.
pub fn mount_path(field: &str) -> Rule {
    let taken = TAKEN_PATHS.map(|path| format!("'{path}'")).join(", ");
    rule(
        format!(
            "self.matches('{PATH}') && !self.contains('..') && \
             ![{taken}].exists(t, self == t || self.startsWith(t + '/') || t.startsWith(self + '/'))"
        ),
        format!(
            "{} + ' ({taken_plain}); {}'",
            says(field, MOUNT_REMEDY),
            PATH_REMEDY.replace('\'', "\\'"),
            taken_plain = TAKEN_PATHS.join(", ")
        ),
    )
}

/// Readable and at least one second.
pub fn polling_interval(field: &str) -> Rule {
    rule(format!("self.matches('{GO_DURATION}') && duration(self) >= duration('1s')"), says(field, POLLING_REMEDY))
}

/// Readable and not negative.
pub fn duration_not_negative(field: &str) -> Rule {
    rule(format!("self.matches('{GO_DURATION}') && duration(self) >= duration('0s')"), says(field, DURATION_REMEDY))
}

/// Readable and above 0.
pub fn positive_duration(field: &str) -> Rule {
    rule(
        format!("self.matches('{GO_DURATION}') && duration(self) > duration('0s')"),
        format!("{} + ', above 0'", says(field, DURATION_REMEDY)),
    )
}

/// The name of a share: at most one leading slash, then something that is neither a slash nor a blank.
pub fn share_name(field: &str) -> Rule {
    rule("self.matches('^/?[^/ \\\\x00-\\\\x1f\\\\x7f][^\\\\x00-\\\\x1f\\\\x7f]*$')", says(field, SHARE_REMEDY))
}

/// One of [`SNAPSHOT_WORDS`], or readable and above 0.
pub fn snapshot_interval(field: &str) -> Rule {
    let words = SNAPSHOT_WORDS.map(|word| format!("'{word}'")).join(", ");
    rule(
        format!("self in [{words}] || (self.matches('{GO_DURATION}') && duration(self) > duration('0s'))"),
        says(field, SNAPSHOT_INTERVAL_REMEDY),
    )
}

/// Empty, or readable and not negative.
pub fn snapshot_ttl(field: &str) -> Rule {
    rule(
        format!("self == '' || (self.matches('{GO_DURATION}') && duration(self) >= duration('0s'))"),
        says(field, SNAPSHOT_TTL_REMEDY),
    )
}

/// What the server takes as the beginning of a snapshot's name.
pub fn name_prefix(field: &str) -> Rule {
    rule("self.matches('^[A-Za-z0-9_-]{0,64}$')", says(field, NAME_PREFIX_REMEDY))
}

/// No two policies for one share; the leading slash of its name does not count.
pub fn one_policy_per_share(field: &str) -> Rule {
    let name = |policy: &str| format!("({policy}.share.startsWith('/') ? {policy}.share : '/' + {policy}.share)");
    let alone = format!("self.exists_one(q, {} == {})", name("q"), name("p"));
    rule(
        format!("self.all(p, {alone})"),
        format!(
            "'{field} has several policies for %s: {ONE_POLICY_REMEDY}'\
             .format([self.filter(p, !{alone}).map(p, p.share)])"
        ),
    )
}

/// Not empty and without blanks.
pub fn not_blank(field: &str) -> Rule {
    rule("self.matches('^[^ \\\\t\\\\r\\\\n]+$')", says(field, BLANK_REMEDY))
}

/// At `spec`: type postgres needs a Secret, the user's or that of Percona's operator; an empty name is no reference.
pub fn postgres_needs_secret() -> Rule {
    Rule::new(
        "!has(self.database) || !has(self.database.type) || self.database.type != 'postgres' || \
         (has(self.database.postgresSecretRef) && has(self.database.postgresSecretRef.name) && \
         self.database.postgresSecretRef.name != '') || \
         (has(self.percona) && has(self.percona.enabled) && self.percona.enabled)",
    )
    .message(
        format!(
            "spec.database.type is \"postgres\" and spec.database.postgresSecretRef has no name: {POSTGRES_REMEDY}"
        )
        .as_str(),
    )
    .reason(Reason::FieldValueRequired)
    .field_path(".database.postgresSecretRef")
}

/// TLS needs a certificate; an empty name is none.
pub fn tls_needs_certificate() -> Rule {
    Rule::new("!has(self.tls) || !self.tls || (has(self.certSecretName) && self.certSecretName != '')")
        .message(
            format!("spec.controlPlane.tls is true and spec.controlPlane.certSecretName is unset: {TLS_REMEDY}")
                .as_str(),
        )
        .reason(Reason::FieldValueRequired)
        .field_path(".certSecretName")
}

/// With TLS the content volume stays clear of the certificates, too.
pub fn cache_clear_of_tls() -> Rule {
    let taken = TLS_PATHS.map(|path| format!("'{path}'")).join(", ");
    rule(
        format!(
            "!has(self.controlPlane) || !has(self.controlPlane.tls) || !self.controlPlane.tls || !has(self.cache) || \
             !has(self.cache.path) || ![{taken}].exists(t, self.cache.path == t || self.cache.path.startsWith(t + '/'))"
        ),
        format!("'spec.cache.path is \"' + self.cache.path + '\": {MOUNT_REMEDY} ({})'", TLS_PATHS.join(", ")),
    )
    .field_path(".cache.path")
}

/// A reference with a name has a key that a Secret can have.
pub fn secret_key(field: &str) -> Rule {
    rule(
        "!has(self.name) || self.name == '' || (has(self.key) && self.key.matches('^[-._a-zA-Z0-9]+$'))",
        format!("'{field}.key is \"' + (has(self.key) ? self.key : '') + '\": {SECRET_KEY_REMEDY}'"),
    )
}

/// No environment variable that the operator sets itself.
pub fn env_names(field: &str) -> Rule {
    let own = OWN_ENV.map(|name| format!("'{name}'")).join(", ");
    let ours = format!("(e.name in [{own}] || e.name.startsWith('{OWN_ENV_PREFIX}'))");
    rule(
        format!("!self.exists(e, has(e.name) && {ours})"),
        format!("'{field} has %s: {ENV_REMEDY}'.format([self.filter(e, has(e.name) && {ours}).map(e, e.name)])"),
    )
    .reason(Reason::FieldValueForbidden)
}

/// Each peer is somebody: pods, namespaces or a block of addresses, and a block alone.
pub fn peers_name_somebody(field: &str) -> Rule {
    let pods = "(has(p.podSelector) || has(p.namespaceSelector))";
    rule(
        format!("self.all(p, {pods} != has(p.ipBlock))"),
        format!(
            "'{field} has a peer with ' + (self.exists(p, {pods} && has(p.ipBlock)) ? 'an ipBlock and a selector' : \
             'nothing in it') + ': {PEER_REMEDY}'"
        ),
    )
}

/// Each block of addresses is one, and what is excepted from it lies within it.
pub fn peers_cidrs(field: &str) -> Rule {
    let within = "(!has(p.ipBlock.except) || p.ipBlock.except.all(e, isCIDR(e) && \
                  cidr(p.ipBlock.cidr).containsCIDR(e) && cidr(e).prefixLength() > cidr(p.ipBlock.cidr).prefixLength()))";
    let good = format!("(!has(p.ipBlock) || (isCIDR(p.ipBlock.cidr) && {within}))");
    rule(
        format!("self.all(p, {good})"),
        format!("'{field} has the ipBlock %s: {CIDR_REMEDY}'.format([self.filter(p, !{good}).map(p, p.ipBlock.cidr)])"),
    )
}

/// A Prometheus duration, the largest unit first: what the ServiceMonitor's own schema takes. An empty one is unset.
const PROMETHEUS_DURATION: &str =
    "^(0|(([0-9]+)y)?(([0-9]+)w)?(([0-9]+)d)?(([0-9]+)h)?(([0-9]+)m)?(([0-9]+)s)?(([0-9]+)ms)?)$";

/// Readable for Prometheus.
pub fn prometheus_duration(field: &str) -> Rule {
    rule(format!("self.matches('{PROMETHEUS_DURATION}')"), says(field, PROMETHEUS_DURATION_REMEDY))
}

/// An LDAP directory that is asked has an address that the server can dial.
pub fn ldap_url(parent: &str) -> Rule {
    rule(
        format!("!has(self.enabled) || !self.enabled || !has(self.url) || self.url.matches('{LDAP_URL}')"),
        format!("'{parent}.url is \"' + self.url + '\": {}'", LDAP_URL_REMEDY.replace('\'', "\\'")),
    )
    .field_path(".url")
}

/// An LDAP directory that is asked is asked by and below a name.
pub fn ldap_name(parent: &str, field: &str) -> Rule {
    rule(
        format!(
            "!has(self.enabled) || !self.enabled || !has(self.{field}) || self.{field}.matches('[^ \\\\t\\\\r\\\\n]')"
        ),
        format!("'{parent}.{field} is \"' + self.{field} + '\": {LDAP_NAME_REMEDY}'"),
    )
    .field_path(format!(".{field}"))
}
