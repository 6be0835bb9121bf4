//! Invariant: a request is refused with all of its wrong fields, not with the first one.

use std::borrow::Cow;
use std::fmt::Display;

use super::error::{AppError, FieldViolation};

/// Collects the wrong fields of one request.
#[derive(Debug, Default)]
pub struct Violations(Vec<FieldViolation>);

impl Violations {
    /// Keeps the value, or notes why `field` is wrong.
    pub fn check<T, E: Display>(
        &mut self,
        field: impl Into<Cow<'static, str>>,
        parsed: Result<T, E>,
    ) -> Option<T> {
        parsed.map_err(|problem| self.add(field, problem)).ok()
    }

    /// Notes that `field` is wrong.
    pub fn add(&mut self, field: impl Into<Cow<'static, str>>, problem: impl Display) {
        self.0.push(FieldViolation { field: field.into(), problem: problem.to_string() });
    }

    /// The value if no field was wrong.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` with every violation. `value` is `None` only if one was noted.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, AppError> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(AppError::validation(self.0)),
        }
    }
}

/// Why a single value was refused: what is wrong and what is allowed, in one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub Cow<'static, str>);

impl Invalid {
    /// `problem` names what is wrong and what is allowed.
    pub fn new(problem: impl Into<Cow<'static, str>>) -> Self {
        Self(problem.into())
    }
}
