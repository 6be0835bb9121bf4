//! A bar per resource. Invariant: no line is wider than asked for (20 columns at least), whatever the agent said; a part
//! that is there is seen, if only as one cell; the letters tell the parts apart without colour.

use super::{Amounts, Node};
use crate::output::{self, printable};

/// Wider says no more.
const WIDEST: usize = 60;
/// Below this a bar says nothing.
const NARROWEST: usize = 10;
const LABEL: usize = 8;
/// What the legend takes on one line.
const LEGEND: usize = 51;
const OWNER: &str = "\u{1b}[34m";
const USED: &str = "\u{1b}[32m";
const FREE: &str = "\u{1b}[2m";
const DEFICIT: &str = "\u{1b}[33m";
const PLAIN: &str = "\u{1b}[0m";

/// Between a number and its unit.
const NO_BREAK: &str = "\u{a0}";

/// How amounts of a resource are said.
type Say = fn(f64) -> String;

/// The host for people, in lines of at most `width` columns where words allow.
pub(super) fn draw(node: &Node, width: usize) -> String {
    let mut text = wrap(
        &format!(
            "{} runs agent {} on {}, {}; {} VMs, {} running",
            named(&node.agent_name),
            named(&node.version),
            named(&node.architecture),
            named(&node.acceleration),
            node.vms,
            node.vms_running
        ),
        0,
        width,
    );
    text.push('\n');
    let bar = width.saturating_sub(LABEL + 2).clamp(NARROWEST, WIDEST);
    let cpus: Say = |cpus| output::decimal(cpus);
    for (label, amounts, say) in [
        ("CPU", node.cpu, cpus),
        ("memory", node.ram, output::bytes),
        ("disk", node.disk, output::bytes),
    ] {
        match amounts {
            Some(amounts) => resource(&mut text, label, &amounts, say, bar, width),
            None => text.push_str(&format!("{label:<LABEL$}unknown\n")),
        }
    }
    text.push('\n');
    let legend = [
        (OWNER, "=", "owner's"),
        (USED, "#", "VMs', in use"),
        (USED, "+", "VMs', promised"),
        (FREE, ".", "free"),
    ];
    let between = if width < LEGEND { "\n" } else { "  " };
    let marks = legend.map(|(colour, mark, what)| format!("{colour}{mark}{PLAIN} {what}"));
    text.push_str(&marks.join(between));
    text.push('\n');
    text
}

fn named(text: &str) -> String {
    if text.is_empty() { "?".to_owned() } else { printable(text) }
}

fn resource(text: &mut String, label: &str, amounts: &Amounts, say: Say, bar: usize, width: usize) {
    let [owner, used, promised, free] = cells(amounts, bar);
    text.push_str(&format!(
        "{label:<LABEL$}[{OWNER}{}{PLAIN}{USED}{}{}{PLAIN}{FREE}{}{PLAIN}]\n",
        "=".repeat(owner),
        "#".repeat(used),
        "+".repeat(promised),
        ".".repeat(free)
    ));
    let often = if (amounts.overcommit - 1.0).abs() > f64::EPSILON {
        format!(", each promised up to {} times", output::decimal(amounts.overcommit))
    } else {
        String::new()
    };
    let numbers = format!(
        "{}: owner's {}, VMs' {} ({} in use), free {}{often}",
        whole(say, amounts.total),
        whole(say, amounts.reserved),
        whole(say, amounts.allocated),
        whole(say, amounts.used),
        whole(say, amounts.available)
    );
    text.push_str(&wrap(&numbers, LABEL, width));
    if amounts.deficit > 0.0 {
        let short = format!(
            "VMs hold {} more than the owner leaves them: they keep running, and no new VM is admitted \
             until some are deleted or the reservation is lowered",
            whole(say, amounts.deficit)
        );
        text.push_str(&format!("{DEFICIT}{}{PLAIN}\n", wrap(&short, LABEL, width).trim_end()));
    }
}

/// How many of `width` cells are the owner's, in use by VMs, promised to VMs beyond that, and free.
fn cells(amounts: &Amounts, width: usize) -> [usize; 4] {
    let Amounts { total, reserved, allocated, used, available, overcommit, .. } = *amounts;
    let owner = share(reserved, total, width);
    let rest = width - owner;
    // What is left to VMs is drawn by what may be promised of it, so that "free" is what a new VM can have.
    let promisable = (total - reserved).max(0.0) * overcommit;
    let room = if available > 0.0 && rest > 1 { rest - 1 } else { rest };
    let taken = share(allocated.max(used), promisable, rest).min(room);
    let in_use = share(used, promisable, rest).min(taken);
    [owner, in_use, taken - in_use, rest - taken]
}

/// `part` of `whole` in cells, at least 1 if there is any of it, at most `width`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a float is cast saturating, NaN as 0, and the width is a terminal's"
)]
fn share(part: f64, whole: f64, width: usize) -> usize {
    let some = part.is_finite() && part > 0.0;
    if !some {
        return 0;
    }
    let cells = if whole > 0.0 { (part / whole * width as f64).round() as usize } else { width };
    cells.clamp(1.min(width), width)
}

/// `amount` in words that stay on one line.
fn whole(say: Say, amount: f64) -> String {
    say(amount).replace(' ', NO_BREAK)
}

/// `text` in lines of at most `width`, each behind `indent` blanks; only a longer word is longer.
fn wrap(text: &str, indent: usize, width: usize) -> String {
    let mut lines = String::new();
    let mut at = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
        if at > 0 && at + 1 + length <= width {
            lines.push(' ');
            at += 1;
        } else {
            if at > 0 {
                lines.push('\n');
            }
            lines.push_str(&" ".repeat(indent));
            at = indent;
        }
        lines.push_str(word);
        at += length;
    }
    lines.push('\n');
    lines.replace(NO_BREAK, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF: Amounts = Amounts {
        total: 16.0,
        reserved: 4.0,
        allocated: 6.0,
        used: 3.0,
        available: 6.0,
        deficit: 0.0,
        overcommit: 1.0,
    };

    #[test]
    fn the_parts_of_a_bar_are_in_proportion() {
        assert_eq!(cells(&HALF, 16), [4, 3, 3, 6]);
        let twice = Amounts { overcommit: 2.0, available: 18.0, ..HALF };
        assert_eq!(cells(&twice, 16), [4, 2, 1, 9]);
    }

    #[test]
    fn a_part_that_is_there_is_seen() {
        let crumbs = Amounts { total: 1000.0, reserved: 1.0, allocated: 2.0, used: 1.0, ..HALF };
        assert_eq!(cells(&crumbs, 20), [1, 1, 0, 18]);
        let nearly_full = Amounts { reserved: 0.0, allocated: 15.99, available: 0.01, ..HALF };
        assert_eq!(cells(&nearly_full, 10)[3], 1);
    }

    #[test]
    fn a_deficit_fills_the_bar() {
        let deficit = Amounts { reserved: 12.0, available: 0.0, deficit: 2.0, ..HALF };
        assert_eq!(cells(&deficit, 16), [12, 3, 1, 0]);
        assert_eq!(cells(&Amounts { reserved: 99.0, ..deficit }, 16), [16, 0, 0, 0]);
    }

    #[test]
    fn nonsense_of_an_agent_still_makes_a_bar_of_its_width() {
        let odd = [0.0, -1.0, 1.0, 1e300, f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
        for total in odd {
            for reserved in odd {
                for allocated in odd {
                    for overcommit in odd {
                        let amounts = Amounts { total, reserved, allocated, overcommit, ..HALF };
                        assert_eq!(cells(&amounts, 30).iter().sum::<usize>(), 30, "{amounts:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let deficit = Amounts { deficit: 2.0, overcommit: 1.5, ..HALF };
        let node = Node {
            agent_id: String::new(),
            agent_name: "pc\u{1b}[2J".to_owned(),
            version: "0.1.0".to_owned(),
            architecture: "x86_64".to_owned(),
            acceleration: "kvm".to_owned(),
            cpu: Some(deficit),
            ram: Some(HALF),
            disk: None,
            vms: 2,
            vms_running: 1,
        };
        for width in [40, 80, 200] {
            let text = anstream::adapter::strip_str(&draw(&node, width)).to_string();
            let widest = text.lines().map(|line| line.chars().count()).max();
            assert!(widest <= Some(width), "{text}");
            assert!(text.contains("pc\u{fffd}[2J") && text.contains("unknown"), "{text}");
            let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(flat.contains("VMs hold 2 more than the owner leaves them"), "{text}");
            assert!(flat.contains("each promised up to 1.5 times"), "{text}");
        }
    }
}
