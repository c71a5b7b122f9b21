//! Where a server's REST API is: the `--api-url-template`, filled in for one server. One that starts with `http://`
//! becomes `https://` for a server whose API speaks TLS; one that starts with `https://` stays so for all.
//!
//! The only place that makes such a URL. It is always computed from the `DittoServer` and never read back from a
//! Secret, so that whoever may write that Secret cannot send the operator's password elsewhere.

use std::fmt;
use std::str::FromStr;

use reqwest::Url;

use crate::reconcile::ServerKey;

/// The template that finds a server's `-api` Service through cluster DNS.
pub const DEFAULT_API_URL_TEMPLATE: &str = "http://{name}-api.{namespace}.svc.cluster.local:{port}";

/// The scheme that a server with TLS does not have.
const PLAIN: &str = "http://";

/// A checked `--api-url-template`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlTemplate {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Name,
    Namespace,
    Port,
}

/// Why a template cannot be used; each text names the value and what to do.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// A `{…}` that is not known.
    #[error(
        "API URL template \"{template}\": unknown placeholder {{{placeholder}}}; use {{name}}, {{namespace}} and {{port}}"
    )]
    UnknownPlaceholder {
        /// The template as given.
        template: String,
        /// What stood between the braces.
        placeholder: String,
    },
    /// A brace without its partner.
    #[error("API URL template \"{template}\": a brace is not closed or not opened; write placeholders as {{name}}")]
    Brace {
        /// The template as given.
        template: String,
    },
    /// It does not start with `http://` or `https://`.
    #[error("API URL template \"{template}\": it has to start with http:// or https://")]
    Scheme {
        /// The template as given.
        template: String,
    },
    /// A part that a base URL must not have.
    #[error("API URL template \"{template}\": remove the {part}; the API's paths are appended to the template")]
    Unwanted {
        /// The template as given.
        template: String,
        /// The part.
        part: &'static str,
    },
    /// Filled in, it is no URL.
    #[error(
        "API URL template \"{template}\" gives \"{expanded}\", which is not a URL ({source}); write it like {DEFAULT_API_URL_TEMPLATE}"
    )]
    NotAUrl {
        /// The template as given.
        template: String,
        /// The template filled in.
        expanded: String,
        /// What is wrong with it.
        source: <Url as FromStr>::Err,
    },
}

impl UrlTemplate {
    /// Reads and checks a template, by filling it in for an example.
    pub fn parse(template: &str) -> Result<Self, TemplateError> {
        let lower = template.to_ascii_lowercase();
        if !lower.starts_with("http://") && !lower.starts_with("https://") {
            return Err(TemplateError::Scheme { template: template.to_owned() });
        }
        let parsed = Self { text: template.to_owned(), parts: parts(template)? };
        let example = parsed.expand(&ServerKey::new("default", "files"), 8080, false)?;
        let unwanted = [
            (!example.username().is_empty() || example.password().is_some(), "user and password"),
            (example.query().is_some(), "query (?…)"),
            (example.fragment().is_some(), "fragment (#…)"),
        ];
        match unwanted.into_iter().find(|(there, _)| *there) {
            Some((_, part)) => Err(TemplateError::Unwanted { template: template.to_owned(), part }),
            None => Ok(parsed),
        }
    }

    /// The base URL of one server's API; a path in the template is kept in front of the API's own. `tls` says whether
    /// the API speaks TLS.
    ///
    /// Fails only for a name that is no host where the template puts it (`xn--` and an unreadable rest).
    pub fn expand(&self, key: &ServerKey, port: u16, tls: bool) -> Result<Url, TemplateError> {
        let mut expanded: String = self
            .parts
            .iter()
            .map(|part| match part {
                Part::Literal(text) => text.clone(),
                Part::Name => key.name.clone(),
                Part::Namespace => key.namespace.clone(),
                Part::Port => port.to_string(),
            })
            .collect();
        if tls && expanded.get(..PLAIN.len()).is_some_and(|scheme| scheme.eq_ignore_ascii_case(PLAIN)) {
            expanded.replace_range(..PLAIN.len(), "https://");
        }
        Url::parse(&expanded).map_err(|source| TemplateError::NotAUrl { template: self.text.clone(), expanded, source })
    }
}

impl Default for UrlTemplate {
    /// [`DEFAULT_API_URL_TEMPLATE`].
    fn default() -> Self {
        let literal = |text: &str| Part::Literal(text.to_owned());
        Self {
            text: DEFAULT_API_URL_TEMPLATE.to_owned(),
            parts: vec![
                literal("http://"),
                Part::Name,
                literal("-api."),
                Part::Namespace,
                literal(".svc.cluster.local:"),
                Part::Port,
            ],
        }
    }
}

impl FromStr for UrlTemplate {
    type Err = TemplateError;

    fn from_str(template: &str) -> Result<Self, TemplateError> {
        Self::parse(template)
    }
}

impl fmt::Display for UrlTemplate {
    /// The template as it was given.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn parts(template: &str) -> Result<Vec<Part>, TemplateError> {
    let brace = || TemplateError::Brace { template: template.to_owned() };
    let mut parts = Vec::new();
    let mut rest = template;
    while let Some(at) = rest.find(['{', '}']) {
        let (literal, from_brace) = rest.split_at(at);
        if !literal.is_empty() {
            parts.push(Part::Literal(literal.to_owned()));
        }
        let (placeholder, after) =
            from_brace.strip_prefix('{').and_then(|inner| inner.split_once('}')).ok_or_else(brace)?;
        parts.push(match placeholder {
            "name" => Part::Name,
            "namespace" => Part::Namespace,
            "port" => Part::Port,
            unknown => {
                return Err(TemplateError::UnknownPlaceholder {
                    template: template.to_owned(),
                    placeholder: unknown.to_owned(),
                });
            }
        });
        rest = after;
    }
    if !rest.is_empty() {
        parts.push(Part::Literal(rest.to_owned()));
    }
    Ok(parts)
}

/// `base` with `segments` appended to its path, each percent-encoded.
pub(super) fn endpoint(base: &Url, segments: &[&str]) -> Url {
    let mut url = base.clone();
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(segments);
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(template: &str) -> String {
        let base = UrlTemplate::parse(template)
            .unwrap_or_else(|error| panic!("{error}"))
            .expand(&ServerKey::new("team-a", "files"), 8081, false)
            .unwrap_or_else(|error| panic!("{error}"));
        endpoint(&base, &["api", "v1", "adapters"]).to_string()
    }

    #[test]
    fn the_default_is_the_api_service_in_cluster_dns() {
        assert_eq!(expand(DEFAULT_API_URL_TEMPLATE), "http://files-api.team-a.svc.cluster.local:8081/api/v1/adapters");
        assert_eq!(UrlTemplate::default(), UrlTemplate::parse(DEFAULT_API_URL_TEMPLATE).expect("the default"));
        assert_eq!(UrlTemplate::default().to_string(), DEFAULT_API_URL_TEMPLATE);
    }

    #[test]
    fn a_path_in_the_template_is_kept_in_front() {
        for template in ["http://127.0.0.1:4000/{namespace}/{name}", "http://127.0.0.1:4000/{namespace}/{name}/"] {
            assert_eq!(expand(template), "http://127.0.0.1:4000/team-a/files/api/v1/adapters");
        }
        assert_eq!(expand("https://{name}.{namespace}:{port}"), "https://files.team-a:8081/api/v1/adapters");
    }

    #[test]
    fn a_server_that_speaks_tls_is_asked_over_https_and_no_template_takes_it_away() {
        for (template, plain, secure) in [
            (
                DEFAULT_API_URL_TEMPLATE,
                "http://files-api.team-a.svc.cluster.local:8443/",
                "https://files-api.team-a.svc.cluster.local:8443/",
            ),
            ("HTTP://127.0.0.1:4000/{name}", "http://127.0.0.1:4000/files", "https://127.0.0.1:4000/files"),
            ("https://{name}.example", "https://files.example/", "https://files.example/"),
        ] {
            let template = UrlTemplate::parse(template).expect("a good template");
            let expand =
                |tls| template.expand(&ServerKey::new("team-a", "files"), 8443, tls).expect("a URL").to_string();
            assert_eq!((expand(false).as_str(), expand(true).as_str()), (plain, secure));
        }
    }

    #[test]
    fn a_template_that_cannot_work_is_refused_with_value_and_remedy() {
        for (template, remedy) in [
            ("http://{nmae}-api:{port}", "use {name}, {namespace} and {port}"),
            ("http://{}:{port}", "use {name}, {namespace} and {port}"),
            ("{name}-api:{port}", "http:// or https://"),
            ("ftp://{name}", "http:// or https://"),
            ("", "http:// or https://"),
            ("http://{name", "write placeholders as {name}"),
            ("http://name}", "write placeholders as {name}"),
            ("http://", "write it like http://{name}"),
            ("http://{name}:{port}0000", "write it like http://{name}"),
            ("http://{name} x/", "write it like http://{name}"),
            ("http://user:pw@{name}", "remove the user and password"),
            ("http://{name}?a=b", "remove the query"),
            ("http://{name}#top", "remove the fragment"),
        ] {
            let error = UrlTemplate::parse(template).expect_err(template).to_string();
            assert!(error.contains(&format!("\"{template}\"")), "{error}");
            assert!(error.contains(remedy), "{error}");
        }
    }

    #[test]
    fn a_name_that_is_no_host_is_an_error_and_no_panic() {
        let template = UrlTemplate::parse("http://{name}:{port}").expect("a good template");
        assert!(template.expand(&ServerKey::new("default", "xn--a"), 8080, false).is_err());
    }

    #[test]
    fn appended_segments_are_encoded() {
        let base = Url::parse("http://files:8080").expect("a URL");
        assert_eq!(endpoint(&base, &["a/b", "c?d"]).as_str(), "http://files:8080/a%2Fb/c%3Fd");
    }
}
