//! What a value may be. Invariant: a rule's `allowed` text and its check come from the same
//! numbers, so the message, the documentation and the code cannot disagree.

mod addresses;
mod amounts;
mod images;
mod texts;

use std::borrow::Cow;

pub(super) use addresses::{
    api_url, clients, collector, host_and_port, libvirt_uri, listen_address, socket_address,
};
pub(super) use amounts::{duration, ratio, reserve, whole};
pub(super) use images::mirrors;
pub(super) use texts::{choice, host_label, http_path, object_name, path, socket_path, switch};

use super::problem::quoted;

/// How a value was written down, which decides what it may mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// YAML without quotes: text, number or boolean.
    Plain,
    /// YAML in quotes or as a block: text only.
    Quoted,
    /// The environment or a default: anything, a list separated by commas.
    Flat,
}

/// One value as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scalar {
    pub(super) text: String,
    pub(super) style: Style,
}

impl Scalar {
    pub(super) fn flat(text: &str) -> Self {
        Self { text: text.to_owned(), style: Style::Flat }
    }

    /// YAML's null: nothing, `~` or `null`, without quotes.
    pub(super) fn is_null(&self) -> bool {
        self.style == Style::Plain
            && matches!(self.text.as_str(), "" | "~" | "null" | "Null" | "NULL")
    }

    /// The text where `what` is not a text.
    fn unquoted(&self, what: &str) -> Result<&str, String> {
        match self.style {
            Style::Quoted => {
                Err(format!("{} is a text, not {what}; remove the quotes", quoted(&self.text)))
            }
            Style::Plain | Style::Flat => Ok(&self.text),
        }
    }
}

/// What stands at a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Raw {
    One(Scalar),
    Many(Vec<Scalar>),
}

/// Whether a key takes one value or a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    One,
    Many,
}

type Parse<T> = Box<dyn Fn(&Raw) -> Result<T, String>>;

/// Turns what stands at a key into a `T`, or says in a few words why not.
pub(super) struct Rule<T> {
    pub(super) allowed: Cow<'static, str>,
    pub(super) shape: Shape,
    parse: Parse<T>,
}

impl<T: 'static> Rule<T> {
    fn one(
        allowed: impl Into<Cow<'static, str>>,
        parse: impl Fn(&Scalar) -> Result<T, String> + 'static,
    ) -> Self {
        let parse = move |raw: &Raw| match raw {
            Raw::One(scalar) => parse(scalar),
            Raw::Many(_) => Err("is a list, where one value is expected".to_owned()),
        };
        Self { allowed: allowed.into(), shape: Shape::One, parse: Box::new(parse) }
    }

    fn text(
        allowed: impl Into<Cow<'static, str>>,
        parse: impl Fn(&str) -> Result<T, String> + 'static,
    ) -> Self {
        Self::one(allowed, move |scalar| parse(&scalar.text))
    }

    pub(super) fn parse(&self, raw: &Raw) -> Result<T, String> {
        (self.parse)(raw)
    }

    /// The same rule for another type.
    pub(super) fn map<U: 'static>(self, convert: impl Fn(T) -> U + 'static) -> Rule<U> {
        let Self { allowed, shape, parse } = self;
        Rule { allowed, shape, parse: Box::new(move |raw| parse(raw).map(&convert)) }
    }
}

/// The rule, or an empty text for none.
pub(super) fn optional<T: 'static>(rule: Rule<T>) -> Rule<Option<T>> {
    let Rule { allowed, shape, parse } = rule;
    let parse = move |raw: &Raw| match raw {
        Raw::One(scalar) if scalar.text.is_empty() => Ok(None),
        Raw::One(_) | Raw::Many(_) => parse(raw).map(Some),
    };
    Rule { allowed: format!("{allowed}, or \"\" for none").into(), shape, parse: Box::new(parse) }
}

/// The rule, or `off` (or an empty text) for never.
pub(super) fn or_off<T: 'static>(rule: Rule<T>) -> Rule<Option<T>> {
    let Rule { allowed, shape, parse } = rule;
    let parse = move |raw: &Raw| match raw {
        Raw::One(scalar) if matches!(scalar.text.as_str(), "" | "off") => Ok(None),
        Raw::One(_) | Raw::Many(_) => parse(raw).map(Some),
    };
    Rule { allowed: format!("{allowed}, or off for never").into(), shape, parse: Box::new(parse) }
}
