//! The environment. Invariant: a `GHOST_SECTION__KEY` variable sets the key of that name or is
//! refused; no misspelt one is silently without effect.

use std::collections::BTreeMap;

use super::file::unknown_key;
use super::nearest::nearest;
use super::problem::{Origin, Problem};
use super::reader::Reader;
use super::rules::{Raw, Scalar};
use super::secret::ApiKey;
use super::table::{Key, keys};

/// Hands the variables to the reader, and gives the enrolment secret if there is one.
pub(super) fn give(env: &BTreeMap<String, String>, reader: &mut Reader<'_>) -> Option<ApiKey> {
    let keys = keys();
    for (name, value) in env.iter().filter(|(name, _)| name.starts_with("GHOST_")) {
        let refuse = |text: String| Problem::of_variable(name, text);
        match keys.iter().find(|key| key.variable() == *name) {
            Some(_) if value.contains('\u{fffd}') => {
                reader.problems.push(refuse("is not UTF-8 text".to_owned()));
            }
            Some(key) => {
                let raw = Raw::One(Scalar::flat(value));
                reader.give(key, raw, Origin::Environment(name.clone()));
            }
            None => reader.problems.extend(unknown(name, &keys).map(refuse)),
        }
    }
    let secret = env.get(ApiKey::VARIABLE)?;
    ApiKey::read(secret).unwrap_or_else(|why| {
        reader.problems.push(Problem::of_variable(ApiKey::VARIABLE, why));
        None
    })
}

/// Why a `GHOST_…` variable that sets no key is refused; `None` if it is none of ours.
fn unknown(name: &str, keys: &[Key]) -> Option<String> {
    let variables: Vec<String> = keys.iter().map(Key::variable).collect();
    let Some((section, key)) = name.strip_prefix("GHOST_").and_then(|rest| rest.split_once("__"))
    else {
        let meant = variables.iter().find(|variable| variable.replace("__", "_") == name)?;
        return Some(format!("sets nothing; did you mean {meant}, with two underscores?"));
    };
    let hint = match nearest(name, variables.iter().map(String::as_str)) {
        _ if key == "API_KEY" => unknown_key(section, "api_key", keys),
        Some(near) => format!("unknown key; did you mean {near}?"),
        None => "unknown key; `ghost-agent check-config --show` lists all".to_owned(),
    };
    Some(hint)
}
