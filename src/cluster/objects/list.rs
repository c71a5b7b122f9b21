//! The LIST of a kind: for tools, and for what is asked so rarely that a watch would be too much.

use http::Method;
use kube::api::ListParams;
use serde_json::Value;

use super::Cluster;
use super::send::{JSON, Verb};
use crate::cluster::error::{KubeError, Operation};
use crate::cluster::kind::Kind;

/// Objects in one answer.
const PAGE: u32 = 500;

impl Cluster {
    /// Every object of `kind` in `namespace`, or in all of them, that matches the label selector. Reads in pages.
    pub async fn list(
        &self,
        kind: Kind,
        namespace: Option<&str>,
        selector: Option<&str>,
    ) -> Result<Vec<Value>, KubeError> {
        let request = Verb { operation: Operation::List, kind, namespace: namespace.unwrap_or_default(), name: "" };
        let path = match namespace {
            Some(namespace) => kind.collection_path(namespace),
            None => Some(format!("{}/{}", kind.discovery_path(), kind.plural())),
        };
        let path = path.ok_or_else(|| KubeError::InvalidName { call: Box::new(request.call()) })?;
        let (mut found, mut next) = (Vec::new(), String::new());
        loop {
            let mut params = ListParams::default().limit(PAGE);
            params.label_selector = selector.map(str::to_owned);
            params.continue_token = (!next.is_empty()).then(|| next.clone());
            // kube's builder escapes what stands in a query.
            let uri = kube::core::Request::new(&path)
                .list(&params)
                .map(|made| made.uri().to_string())
                .map_err(|_| KubeError::InvalidName { call: Box::new(request.call()) })?;
            let answer = self.send_to(&request, Some(uri), Method::GET, JSON, None).await?;
            let mut page = request.parse(&answer)?;
            page.pointer("/metadata/continue").and_then(Value::as_str).unwrap_or_default().clone_into(&mut next);
            if let Some(Value::Array(items)) = page.get_mut("items").map(Value::take) {
                // In a list only the list says what its items are.
                found.extend(items.into_iter().map(|mut item| {
                    item["apiVersion"] = kind.api_version().into();
                    item["kind"] = kind.name().into();
                    item
                }));
            }
            if next.is_empty() {
                return Ok(found);
            }
        }
    }
}
