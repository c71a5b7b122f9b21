//! The requests that the operator makes, each with the statuses that it knows.
//!
//! Source of paths, bodies and statuses: the exchanges recorded from a real server (`tests/fixtures/dittofs`). Every
//! other status is an [`ApiError::Status`].

use reqwest::{Method, StatusCode, Url};
use serde_json::json;

use super::error::{ApiError, Operation};
use super::http::{Answer, Call, Deadline, HttpClient};
use super::types::{Tokens, parse_adapters, parse_tokens};
use super::url::endpoint;
use crate::reconcile::ReportedAdapter;

/// One server's API, until a deadline.
pub(super) struct Api<'a> {
    pub(super) http: &'a HttpClient,
    pub(super) base: &'a Url,
    pub(super) deadline: Deadline,
}

/// What became of making an account.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Created {
    /// It is new, with the password given.
    New,
    /// It was there; its password is not known.
    Exists,
}

impl Api<'_> {
    /// `GET /api/v1/adapters`.
    pub(super) async fn adapters(&self, token: &str) -> Result<Vec<ReportedAdapter>, ApiError> {
        let operation = Operation::ListAdapters;
        let call = Call {
            operation,
            method: Method::GET,
            url: endpoint(self.base, &["api", "v1", "adapters"]),
            bearer: Some(token),
            body: None,
            secrets: &[token],
        };
        let answer = self.http.send(call, self.deadline).await?;
        match answer.status {
            StatusCode::OK => parse_adapters(&answer.body).map_err(|problem| ApiError::Shape { operation, problem }),
            _ => Err(answer.into_status_error()),
        }
    }

    /// `POST /api/v1/auth/login`; `operation` says as whom.
    pub(super) async fn login(&self, operation: Operation, username: &str, password: &str) -> Result<Tokens, ApiError> {
        let body = json!({ "username": username, "password": password });
        tokens(self.post(operation, &["auth", "login"], None, body, &[password]).await?)
    }

    /// `POST /api/v1/auth/refresh`.
    pub(super) async fn refresh(&self, refresh_token: &str) -> Result<Tokens, ApiError> {
        let body = json!({ "refresh_token": refresh_token });
        tokens(self.post(Operation::Refresh, &["auth", "refresh"], None, body, &[refresh_token]).await?)
    }

    /// `POST /api/v1/users`, as administrator.
    pub(super) async fn create_operator(
        &self,
        token: &str,
        username: &str,
        password: &str,
    ) -> Result<Created, ApiError> {
        let body = json!({ "username": username, "password": password, "role": "operator" });
        let secrets = [token, password];
        let answer = self.post(Operation::CreateAccount, &["users"], Some(token), body, &secrets).await?;
        match answer.status {
            StatusCode::CREATED => Ok(Created::New),
            StatusCode::CONFLICT => Ok(Created::Exists),
            _ => Err(answer.into_status_error()),
        }
    }

    /// `POST /api/v1/users/{name}/password`, as administrator.
    pub(super) async fn reset_password(&self, token: &str, username: &str, password: &str) -> Result<(), ApiError> {
        let body = json!({ "new_password": password });
        let path = ["users", username, "password"];
        let answer = self.post(Operation::ResetPassword, &path, Some(token), body, &[token, password]).await?;
        match answer.status {
            StatusCode::NO_CONTENT => Ok(()),
            _ => Err(answer.into_status_error()),
        }
    }

    /// `DELETE /api/v1/users/{name}`, as administrator; an account that is not there is as good.
    pub(super) async fn delete_account(&self, token: &str, username: &str) -> Result<(), ApiError> {
        let call = Call {
            operation: Operation::DeleteAccount,
            method: Method::DELETE,
            url: endpoint(self.base, &["api", "v1", "users", username]),
            bearer: Some(token),
            body: None,
            secrets: &[token],
        };
        let answer = self.http.send(call, self.deadline).await?;
        match answer.status {
            StatusCode::NO_CONTENT | StatusCode::NOT_FOUND => Ok(()),
            _ => Err(answer.into_status_error()),
        }
    }

    async fn post(
        &self,
        operation: Operation,
        path: &[&str],
        bearer: Option<&str>,
        body: serde_json::Value,
        secrets: &[&str],
    ) -> Result<Answer, ApiError> {
        let url = endpoint(self.base, &[&["api", "v1"], path].concat());
        let call = Call { operation, method: Method::POST, url, bearer, body: Some(body), secrets };
        self.http.send(call, self.deadline).await
    }
}

fn tokens(answer: Answer) -> Result<Tokens, ApiError> {
    let operation = answer.operation;
    match answer.status {
        StatusCode::OK => parse_tokens(&answer.body).map_err(|problem| ApiError::Shape { operation, problem }),
        _ => Err(answer.into_status_error()),
    }
}
