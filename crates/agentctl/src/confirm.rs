//! Invariant: nothing is removed that nobody agreed to: a person at a terminal is asked, a script
//! says `--yes`.

use std::io::{BufRead, IsTerminal as _, Write};

use crate::errors::Failure;
use crate::output;

/// Whether the command line already agrees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Consent {
    /// `--yes`.
    Given,
    /// A person has to be asked.
    Asked,
}

impl Consent {
    /// What `--yes` says.
    pub(crate) const fn of_flag(yes: bool) -> Self {
        if yes { Self::Given } else { Self::Asked }
    }
}

/// What is to be done, as the question and the refusals say it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Doing<'a> {
    /// In the infinitive, such as `delete`.
    pub(crate) verb: &'a str,
    /// Such as `deleted`.
    pub(crate) done: &'a str,
    /// The whole question, such as `Delete web-1 with all data?`.
    pub(crate) question: &'a str,
}

/// Who can be asked.
enum Asker<R, W> {
    Person { input: R, output: W },
    Nobody,
}

/// Asks on the terminal unless `consent` is given.
///
/// # Errors
/// Exit 2 without a terminal to ask on, 1 when the person does not agree.
pub(crate) fn agree(doing: Doing<'_>, consent: Consent) -> Result<(), Failure> {
    match consent {
        Consent::Given => Ok(()),
        Consent::Asked if std::io::stdin().is_terminal() && std::io::stderr().is_terminal() => {
            let (input, output) = (std::io::stdin().lock(), std::io::stderr());
            ask(doing, Asker::Person { input, output })
        }
        Consent::Asked => ask(doing, Asker::<std::io::Empty, std::io::Sink>::Nobody),
    }
}

fn ask(doing: Doing<'_>, asker: Asker<impl BufRead, impl Write>) -> Result<(), Failure> {
    let Doing { verb, done, question } = doing;
    let Asker::Person { input, mut output } = asker else {
        return Err(Failure::usage(format!("there is no terminal to ask on whether to {verb}"))
            .remedy("add --yes if you mean it"));
    };
    let _ = write!(output, "{} [y/N] ", output::printable(question));
    let _ = output.flush();
    let mut answer = String::new();
    let read = input.take(64).read_line(&mut answer);
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" if read.is_ok() => Ok(()),
        _ => Err(Failure::local(format!("nothing was {done}: you did not agree"))
            .remedy("answer y, or give --yes")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::errors::Exit;

    const DELETE: Doing<'_> =
        Doing { verb: "delete", done: "deleted", question: "Delete web-1\u{1b}?" };

    fn answered(answer: &str) -> (Result<(), Failure>, String) {
        let mut shown = Vec::new();
        let agreed = ask(DELETE, Asker::Person { input: answer.as_bytes(), output: &mut shown });
        (agreed, String::from_utf8(shown).unwrap())
    }

    #[test]
    fn only_a_yes_agrees() {
        for answer in ["y\n", "Y\n", "yes\n", " yes \n"] {
            assert_eq!(answered(answer).0, Ok(()), "{answer:?}");
        }
        for answer in ["", "\n", "n\n", "no\n", "yep\n", "y y\n"] {
            assert_eq!(answered(answer).0.unwrap_err().exit, Exit::Failed, "{answer:?}");
        }
    }

    #[test]
    fn the_question_cannot_command_the_terminal() {
        assert_eq!(answered("n\n").1, "Delete web-1\u{fffd}? [y/N] ");
    }
}
