//! The fields of a network's configuration, taken from its type: what `--set` may change.

use serde::Serialize;
use serde_json::Value;

use super::Architecture;
use super::CorpusFacts;
use crate::error::Result;

/// A field of a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// What it may be, for people.
    pub values: String,
    /// Its value in each preset, as JSON, in the order of [`Architecture::presets`].
    pub presets: Vec<String>,
    /// What it is.
    pub about: String,
}

/// The fields that a user may set, in alphabetical order.
///
/// # Errors
/// There is none while each preset can be made.
pub fn fields(architecture: &dyn Architecture) -> Result<Vec<Field>> {
    let schema = architecture.schema();
    let facts = CorpusFacts::of(architecture, 1);
    let presets = architecture.presets().iter().map(|preset| architecture.preset(preset.name, facts));
    let presets = presets.collect::<Result<Vec<_>>>()?;
    let empty = serde_json::Map::new();
    let properties = schema["properties"].as_object().unwrap_or(&empty);
    let settable = properties.iter().filter(|(name, _)| !architecture.decided_by_corpus().contains(&name.as_str()));
    let field = |(name, property): (&String, &Value)| Field {
        name: name.clone(),
        values: values(&schema, property),
        presets: presets.iter().map(|preset| plain(&preset[name])).collect(),
        about: text(&property["description"]),
    };
    let mut fields: Vec<Field> = settable.map(field).collect();
    fields.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(fields)
}

/// [`fields`] as a table in Markdown.
///
/// # Errors
/// As there.
pub fn table(architecture: &dyn Architecture) -> Result<String> {
    let presets: Vec<&str> = architecture.presets().iter().map(|preset| preset.name).collect();
    let rule = |count: usize| "|---".repeat(count) + "|\n";
    let mut table = format!("| field | values | {} | |\n{}", presets.join(" | "), rule(presets.len() + 3));
    for Field { name, values, presets, about } in fields(architecture)? {
        let presets: Vec<String> = presets.into_iter().map(|value| format!("`{value}`")).collect();
        table += &format!("| `{name}` | {values} | {} | {about} |\n", presets.join(" | "));
    }
    Ok(table)
}

/// What a property of a schema may be.
fn values(schema: &Value, property: &Value) -> String {
    let reference = property["$ref"].as_str().and_then(|path| path.strip_prefix('#'));
    if let Some(definition) = reference.and_then(|path| schema.pointer(path)) {
        return values(schema, definition);
    }
    // A variant that has a comment is an alternative of its own, those without are a list.
    let variants = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let alternatives = variants(&property["oneOf"]).into_iter().flat_map(|one| match &one["const"] {
        Value::Null => variants(&one["enum"]),
        value => vec![value.clone()],
    });
    let named: Vec<String> =
        alternatives.chain(variants(&property["enum"])).map(|value| format!("`{}`", plain(&value))).collect();
    if !named.is_empty() {
        return named.join(", ");
    }
    match property["type"].as_str() {
        Some("integer") => "a whole number".into(),
        Some("number") => "a number".into(),
        Some("boolean") => "`true`, `false`".into(),
        Some("array") => {
            let of = values(schema, &property["items"]);
            format!("`[…]`, of {} items: {of}", property["maxItems"])
        }
        _ => "JSON".into(),
    }
}

/// JSON as `--set` takes it: text without quotes. Numbers of single precision have the digits of that.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => {
            number.as_f64().map_or(String::new(), |number| (number as f32).to_string())
        }
        value => value.to_string(),
    }
}

/// A comment on one line, as a cell of a table; references to items of the code are their names.
fn text(comment: &Value) -> String {
    let words: Vec<&str> = comment.as_str().unwrap_or_default().split_whitespace().collect();
    words.join(" ").replace(['[', ']'], "").replace('|', "\\|")
}
