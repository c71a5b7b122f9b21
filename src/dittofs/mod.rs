//! All I/O with the DittoFS REST API: the client, its limits, and the session that keeps it logged in.
//!
//! ```text
//! Session::poll ── load ──> Vault (Secret <cr>-operator-credentials, implemented by the poller)
//!      │  token near its end: refresh ──401──> login ──401──> as administrator: create the account or reset its
//!      │                                                      password to the stored one, then login
//!      └─ GET /api/v1/adapters ──401/403──> once more with a new token
//! ```
//!
//! A server with TLS is asked over a client of its own setting ([`HttpClient::secured`]); all others share one.
//!
//! Nothing here starts a task, keeps time or tries again: a poll is one future that ends within
//! [`HttpSettings::poll_timeout`]; pace and backoff are the poller's. No password or token leaves in an error, a
//! `Debug` output or a log.

mod admin;
mod admin_types;
mod calls;
mod error;
mod farewell;
mod http;
mod refusal;
mod session;
mod tls;
mod types;
mod url;
mod vault;

pub use admin::{AdminVisit, AdminWork, Policies, Visited, visit};
pub use error::{ApiError, Operation, PollError, Problem};
pub use farewell::remove_account;
pub use http::{Deadline, HttpClient, HttpClientError, HttpSettings};
pub use session::{ACCOUNT_NAME, Poll, Session};
pub(crate) use tls::expiry;
pub use tls::{Pem, TlsError, TlsFault, TlsMaterial};
pub use url::{DEFAULT_API_URL_TEMPLATE, TemplateError, UrlTemplate};
pub use vault::{AdminAccount, Credentials, Sensitive, Vault, VaultError};
