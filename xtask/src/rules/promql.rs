//! The names of series in a PromQL expression. It need not be right PromQL: whether it is, promtool says.
//! Source: <https://prometheus.io/docs/prometheus/latest/querying/basics/>.

use std::collections::BTreeSet;

/// Operators and modifiers that look like names.
const WORDS: [&str; 10] =
    ["and", "or", "unless", "offset", "bool", "atan2", "inf", "nan", "group_left", "group_right"];
/// Before a list of labels in parentheses.
const BEFORE_LABELS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

/// The series that the expression asks for.
pub(super) fn series(expression: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut rest = expression;
    while let Some(next) = rest.chars().next() {
        rest = match next {
            '{' => after(rest, '}'),
            '[' => after(rest, ']'),
            '"' | '\'' | '`' => after_text(rest, next),
            c if c.is_ascii_digit() => rest.trim_start_matches(|c: char| in_name(c) || c == '.'),
            c if in_name(c) => {
                let (name, behind) = split(rest, in_name);
                let list = behind.trim_start();
                if BEFORE_LABELS.contains(&name) && list.starts_with('(') {
                    after(list, ')')
                } else {
                    if !is_call(list) && !WORDS.contains(&name) {
                        found.insert(name.to_owned());
                    }
                    behind
                }
            }
            other => &rest[other.len_utf8()..],
        };
    }
    found
}

/// Whether what comes before this is a function, or an aggregation such as `sum by (job)`.
fn is_call(behind: &str) -> bool {
    behind.starts_with('(') || ["by", "without"].contains(&split(behind, in_name).0)
}

fn in_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

fn split(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !belongs(c)).unwrap_or(text.len()))
}

/// What comes behind the first `end` that is not in a text.
fn after(text: &str, end: char) -> &str {
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        if next == end {
            return &rest[next.len_utf8()..];
        }
        rest = match next {
            '"' | '\'' | '`' => after_text(rest, next),
            other => &rest[other.len_utf8()..],
        };
    }
    rest
}

/// What comes behind the text that begins here.
fn after_text(text: &str, quote: char) -> &str {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if c == quote && !escaped {
            return &text[at + c.len_utf8()..];
        }
        escaped = c == '\\' && !escaped && quote != '`';
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(expression: &str) -> Vec<String> {
        series(expression).into_iter().collect()
    }

    #[test]
    fn series_are_told_from_functions_labels_texts_and_words() {
        let all = "sum by (job, instance) (rate(a_total{code=~\"b|}\\\"c\", d='e'}[5m] offset 1h)) / on (f) \
            group_left (g) h:i:rate5m > bool 1e3 and ignoring (j) k unless absent(up) or -inf";
        assert_eq!(found(all), ["a_total", "h:i:rate5m", "k", "up"]);
    }

    #[test]
    fn a_word_without_a_list_is_still_no_series() {
        assert_eq!(found("a * on (b) group_left c"), ["a", "c"]);
        assert_eq!(found("histogram_quantile (0.9, a_bucket)"), ["a_bucket"]);
        assert_eq!(found("time() - 50e6"), Vec::<String>::new());
    }

    #[test]
    fn what_does_not_end_is_read_to_its_end() {
        assert_eq!(found("a{b=\"c"), ["a"]);
        assert_eq!(found("a[5m"), ["a"]);
    }
}
