//! ConfigMap `<cr>-config`, the file that the server starts with.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;

use super::common::owned;
use crate::reconcile::{Kerberos, ValidatedServer};

/// Key of the ConfigMap, and the file's name where it is mounted.
pub const CONFIG_FILE: &str = "config.yaml";

/// Key of a krb5.conf that is part of the spec.
pub const KRB5_CONF_FILE: &str = "krb5.conf";

/// The ConfigMap with `config_yaml`, the text that [`render`](super::render) gave and that was hashed.
pub fn config_map(server: &ValidatedServer, config_yaml: &str) -> ConfigMap {
    let mut data = BTreeMap::from([(CONFIG_FILE.to_owned(), config_yaml.to_owned())]);
    data.extend(krb5_conf(server).map(|text| (KRB5_CONF_FILE.to_owned(), text.to_owned())));
    ConfigMap { metadata: owned(server, server.names().config_map()), data: Some(data), ..ConfigMap::default() }
}

/// All that the server reads from the ConfigMap, as it goes into the config hash: `config_yaml`, and what else there
/// is after a NUL, which no `config.yaml` has.
pub fn hashed_text<'a>(server: &ValidatedServer, config_yaml: &'a str) -> Cow<'a, str> {
    match krb5_conf(server) {
        None => Cow::Borrowed(config_yaml),
        Some(text) => Cow::Owned(format!("{config_yaml}\0{KRB5_CONF_FILE}\0{text}")),
    }
}

fn krb5_conf(server: &ValidatedServer) -> Option<&str> {
    server.kerberos.as_ref().and_then(Kerberos::inline_krb5_conf)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::render;
    use crate::fixtures::{directory, server};
    use crate::reconcile::Krb5Conf;

    fn inline(text: &str) -> ValidatedServer {
        let kerberos = Kerberos { krb5_conf: Some(Krb5Conf::Text(text.into())), ..Kerberos::default() };
        server("files").with(|s| s.kerberos = Some(kerberos)).build()
    }

    #[test]
    fn a_krb5_conf_of_the_spec_is_a_key_of_its_own_and_part_of_what_is_hashed() {
        let server = inline("[libdefaults]\n");
        let yaml = render(&server);
        let data = config_map(&server, &yaml).data.unwrap();
        assert_eq!(data["krb5.conf"], "[libdefaults]\n");
        assert_eq!(data["config.yaml"], yaml);
        let other = inline("[realms]\n");
        assert_eq!(render(&other), yaml);
        assert_ne!(hashed_text(&server, &yaml), hashed_text(&other, &yaml));
    }

    #[test]
    fn without_one_what_is_hashed_is_the_config_alone() {
        for server in [server("files").build(), directory("files")] {
            let yaml = render(&server);
            assert_eq!(hashed_text(&server, &yaml), yaml);
            assert_eq!(config_map(&server, &yaml).data.unwrap().len(), 1);
        }
    }
}
