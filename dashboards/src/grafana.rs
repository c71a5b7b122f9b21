//! A [`Dashboard`] as Grafana's JSON.
//!
//! Guarantees: both data sources are variables, so that a file works in any Grafana; panels flow from left to right;
//! links to traces carry the server and the time that is looked at.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::panel::{Dashboard, Kind, Panel, Query, Step, Unit};
use crate::{DASHBOARDS, sorted};

/// Grafana's version of the format.
const SCHEMA_VERSION: u32 = 42;
/// Columns of a line.
const COLUMNS: u8 = 24;

/// The text of a dashboard's file.
pub(crate) fn json(board: &Dashboard) -> String {
    let mut variables = vec![
        data_source("datasource", "Prometheus", "prometheus"),
        data_source("traces", "Jaeger", "jaeger"),
        query_variable("job", "Job", "label_values(dittofs_operator_build_info, job)", true),
    ];
    if board.of_one_server {
        let from = r#"dittofs_operator_server_phase{job=~"$job"}"#;
        let namespaces = format!("label_values({from}, server_namespace)");
        let servers =
            r#"label_values(dittofs_operator_server_phase{job=~"$job",server_namespace="$namespace"}, server)"#;
        variables.push(query_variable("namespace", "Namespace", &namespaces, false));
        variables.push(query_variable("server", "Server", servers, false));
    }
    let links: Vec<Value> = DASHBOARDS.iter().filter(|other| other.file != board.file).map(|other| to(other)).collect();
    let value = json!({
        "annotations": {"list": []},
        "description": board.description,
        "editable": true,
        "graphTooltip": 1,
        "id": null,
        "links": links,
        "panels": panels(board),
        "refresh": "30s",
        "schemaVersion": SCHEMA_VERSION,
        "tags": ["dittofs"],
        "templating": {"list": variables},
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "title": board.title,
        "uid": uid(board),
        "version": 1,
    });
    format!("{:#}\n", sorted(value))
}

fn uid(board: &Dashboard) -> String {
    format!("dittofs-{}", board.file)
}

fn to(board: &Dashboard) -> Value {
    json!({
        "type": "link", "title": board.title, "tooltip": board.description, "url": format!("/d/{}", uid(board)),
        "icon": "dashboard", "keepTime": true, "includeVars": true, "asDropdown": false, "targetBlank": false, "tags": [],
    })
}

fn data_source(name: &str, label: &str, plugin: &str) -> Value {
    json!({"type": "datasource", "name": name, "label": label, "query": plugin, "hide": 0, "multi": false,
        "includeAll": false, "options": [], "refresh": 1, "regex": "", "current": {}})
}

fn query_variable(name: &str, label: &str, query: &str, all: bool) -> Value {
    json!({"type": "query", "name": name, "label": label, "datasource": prometheus(), "definition": query,
        "query": {"query": query, "refId": name, "qryType": 5}, "refresh": 2, "sort": 1, "hide": 0, "multi": all,
        "includeAll": all, "allValue": if all { json!(".*") } else { Value::Null }, "allowCustomValue": true,
        "options": [], "regex": "", "current": if all { json!({"text": "All", "value": "$__all"}) } else { json!({}) }})
}

fn prometheus() -> Value {
    json!({"type": "prometheus", "uid": "${datasource}"})
}

fn jaeger() -> Value {
    json!({"type": "jaeger", "uid": "${traces}"})
}

fn panels(board: &Dashboard) -> Vec<Value> {
    let mut all = Vec::new();
    let mut top = 0_u32;
    for row in board.rows {
        all.push(json!({"type": "row", "id": all.len() + 1, "title": row.title, "collapsed": false, "panels": [],
            "gridPos": {"x": 0, "y": top, "w": COLUMNS, "h": 1}}));
        top += 1;
        let (mut left, mut height) = (0_u8, 0_u32);
        for panel in row.panels {
            if left + panel.width > COLUMNS {
                top += height;
                (left, height) = (0, 0);
            }
            let tall = tall(panel.kind);
            let place = json!({"x": left, "y": top, "w": panel.width, "h": tall});
            all.push(one(panel, all.len() + 1, &place, board.of_one_server));
            left += panel.width;
            height = height.max(tall);
        }
        top += height;
    }
    all
}

const fn tall(kind: Kind) -> u32 {
    match kind {
        Kind::Stat | Kind::Words => 4,
        Kind::Lines | Kind::Bars | Kind::Areas => 8,
        Kind::Servers | Kind::Traces => 10,
    }
}

fn one(panel: &Panel, id: usize, place: &Value, of_one_server: bool) -> Value {
    let (kind, custom, options) = drawing(panel);
    let links = if of_one_server && panel.kind != Kind::Traces {
        json!([traces_link("Traces of $namespace/$server", "${namespace}/${server}", "")])
    } else {
        json!([])
    };
    let mut defaults = json!({
        "unit": unit(panel.unit), "custom": custom, "links": links,
        "thresholds": {"mode": "absolute", "steps": steps(panel.steps)},
        "color": {"mode": if matches!(panel.kind, Kind::Stat | Kind::Words) { "thresholds" } else { "palette-classic" }},
    });
    if !matches!(panel.kind, Kind::Servers | Kind::Traces | Kind::Words) {
        defaults["min"] = json!(0);
    }
    let mut value = json!({
        "id": id, "type": kind, "title": panel.title, "description": panel.description, "gridPos": place,
        "datasource": if panel.kind == Kind::Traces { jaeger() } else { prometheus() },
        "fieldConfig": {"defaults": defaults, "overrides": overrides(panel.kind)},
        "options": options,
        "targets": panel.queries.iter().zip('A'..).map(|(query, id)| target(panel.kind, query, id)).collect::<Vec<_>>(),
    });
    if panel.kind == Kind::Servers {
        value["transformations"] = json!([{"id": "organize", "options": {
            "excludeByName": {"Time": true, "__name__": true, "job": true, "instance": true, "pod": true,
                "container": true, "endpoint": true, "namespace": true},
            "indexByName": {"server_namespace": 0, "server": 1},
        }}]);
    }
    value
}

/// Plugin, `fieldConfig.defaults.custom`, options.
fn drawing(panel: &Panel) -> (&'static str, Value, Value) {
    let bars = panel.kind == Kind::Bars;
    match panel.kind {
        Kind::Stat | Kind::Words => (
            "stat",
            json!({}),
            json!({
                "colorMode": "value", "graphMode": "none", "justifyMode": "auto", "orientation": "auto",
                "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": false},
                "textMode": if panel.kind == Kind::Words { "name" } else { "auto" },
            }),
        ),
        Kind::Lines | Kind::Bars | Kind::Areas => (
            "timeseries",
            json!({
                "drawStyle": if bars { "bars" } else { "line" },
                "fillOpacity": if panel.kind == Kind::Lines { 5 } else { 60 },
                "lineWidth": 1, "showPoints": "auto", "spanNulls": false,
                "stacking": {"mode": if panel.kind == Kind::Lines { "none" } else { "normal" }, "group": "A"},
                "thresholdsStyle": {"mode": if panel.steps.is_empty() { "off" } else { "dashed" }},
            }),
            json!({
                "legend": {"displayMode": "list", "placement": "bottom", "showLegend": true, "calcs": []},
                "tooltip": {"mode": "multi", "sort": "desc"},
            }),
        ),
        Kind::Servers | Kind::Traces => ("table", json!({}), json!({"showHeader": true, "cellHeight": "sm"})),
    }
}

fn target(kind: Kind, query: &Query, id: char) -> Value {
    if kind == Kind::Traces {
        return json!({"refId": id, "datasource": jaeger(), "queryType": "search", "service": "dittofs-operator",
            "tags": query.source, "limit": 20});
    }
    let now = matches!(kind, Kind::Stat | Kind::Words | Kind::Servers);
    json!({"refId": id, "datasource": prometheus(), "expr": query.expr(), "editorMode": "code",
        "legendFormat": if query.legend.is_empty() { "__auto" } else { query.legend },
        "range": !now, "instant": now, "format": if kind == Kind::Servers { "table" } else { "time_series" }})
}

/// In a table of servers each line leads to the server's dashboard and to its traces.
fn overrides(kind: Kind) -> Value {
    if kind != Kind::Servers {
        return json!([]);
    }
    let namespace = "${__data.fields.server_namespace}";
    let board = format!(
        "/d/dittofs-server?var-datasource=${{datasource}}&var-traces=${{traces}}&var-namespace={namespace}\
         &var-server=${{__data.fields.server}}&from=${{__from}}&to=${{__to}}"
    );
    let name = format!("{namespace}/${{__data.fields.server}}");
    let links = json!([
        {"title": "One server", "url": board, "targetBlank": false},
        traces_link("Its traces", &name, ""),
        traces_link("Traces of what it lost", &name, " dittofs.decision=delete"),
    ]);
    json!([{"matcher": {"id": "byName", "options": "server"}, "properties": [{"id": "links", "value": links}]}])
}

/// To Grafana's Explore, a search in Jaeger by `dittofs.server` and `more` tags, at the time that is looked at.
fn traces_link(title: &str, server: &str, more: &str) -> Value {
    let panes = json!({"traces": {
        "datasource": "${traces}",
        "queries": [{"refId": "A", "datasource": jaeger(), "queryType": "search", "service": "dittofs-operator",
            "tags": format!(r#"dittofs.server="{server}"{more}"#), "limit": 20}],
        "range": {"from": "${__from}", "to": "${__to}"},
    }});
    let url = format!("/explore?schemaVersion=1&panes={}", in_query(&sorted(panes).to_string()));
    json!({"title": title, "url": url, "targetBlank": true})
}

/// Percent-encodes what a query string cannot hold and leaves Grafana's `${…}` as they are.
fn in_query(text: &str) -> String {
    let mut encoded = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let end = rest[start..].find('}').map_or(rest.len(), |length| start + length + 1);
        rest[..start].chars().for_each(|letter| push(&mut encoded, letter));
        encoded.push_str(&rest[start..end]);
        rest = &rest[end..];
    }
    rest.chars().for_each(|letter| push(&mut encoded, letter));
    encoded
}

fn push(encoded: &mut String, letter: char) {
    if letter.is_ascii_alphanumeric() || "-_.~:,/".contains(letter) {
        encoded.push(letter);
    } else {
        let mut bytes = [0; 4];
        for byte in letter.encode_utf8(&mut bytes).bytes() {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
}

fn steps(steps: &[Step]) -> Vec<Value> {
    let base = json!({"color": "green", "value": null});
    std::iter::once(base).chain(steps.iter().map(|(value, color)| json!({"color": color, "value": value}))).collect()
}

const fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Count => "short",
        Unit::PerSecond => "cps",
        Unit::Seconds => "s",
        Unit::Bytes => "bytes",
        Unit::Ratio => "percentunit",
        Unit::Label => "none",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_encoded_but_for_what_grafana_fills_in() {
        assert_eq!(in_query(r#"{"a":"${x:y}/b c"}"#), "%7B%22a%22:%22${x:y}/b%20c%22%7D");
    }

    /// All values of objects with that key, at any depth.
    fn all<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a Value>) {
        if let Some(object) = value.as_object() {
            found.extend(object.get(key));
        }
        let children: Vec<&Value> = match value {
            Value::Array(items) => items.iter().collect(),
            Value::Object(fields) => fields.values().collect(),
            _ => Vec::new(),
        };
        for child in children {
            all(child, key, found);
        }
    }

    fn decoded(text: &str) -> String {
        let mut bytes = Vec::new();
        let mut rest = text.bytes();
        while let Some(byte) = rest.next() {
            let mut digit = || (rest.next().unwrap() as char).to_digit(16).unwrap();
            bytes.push(if byte == b'%' { u8::try_from(digit() * 16 + digit()).unwrap() } else { byte });
        }
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn links_to_traces_are_searches_for_the_server() {
        for board in DASHBOARDS {
            let value: Value = serde_json::from_str(&json(board)).unwrap();
            let mut urls = Vec::new();
            all(&value, "url", &mut urls);
            let panes = urls.iter().filter_map(|url| url.as_str()?.split_once("&panes=").map(|(_, panes)| panes));
            let searches: Vec<Value> = panes
                .map(|panes| serde_json::from_str::<Value>(&decoded(panes)).unwrap()["traces"]["queries"][0].take())
                .collect();
            assert_eq!(searches.is_empty(), board.file == "operator", "{}", board.file);
            for search in searches {
                assert_eq!(search["datasource"], jaeger());
                assert!(search["tags"].as_str().unwrap().starts_with("dittofs.server=\"${"), "{search}");
            }
        }
    }

    #[test]
    fn no_panel_covers_another() {
        for board in DASHBOARDS {
            let mut taken = std::collections::BTreeSet::new();
            for panel in panels(board) {
                let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
                assert!(at("x") + at("w") <= u64::from(COLUMNS));
                for x in at("x")..at("x") + at("w") {
                    for y in at("y")..at("y") + at("h") {
                        assert!(taken.insert((x, y)), "{}: {}", board.file, panel["title"]);
                    }
                }
            }
        }
    }
}
