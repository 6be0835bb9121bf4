//! Where panels are: on a grid of 24 columns, none over another.

use serde_json::Value;

/// Grafana's columns.
const COLUMNS: u64 = 24;

#[derive(Debug, Clone, Copy)]
struct Area {
    x: u64,
    y: u64,
    w: u64,
    h: u64,
}

impl Area {
    fn of(panel: &Value) -> Option<Self> {
        let number = |key: &str| panel["gridPos"][key].as_u64();
        let area = Self { x: number("x")?, y: number("y")?, w: number("w")?, h: number("h")? };
        (area.w > 0 && area.h > 0 && area.x + area.w <= COLUMNS).then_some(area)
    }

    const fn covers(self, other: Self) -> bool {
        self.x < other.x + other.w
            && other.x < self.x + self.w
            && self.y < other.y + other.h
            && other.y < self.y + self.h
    }
}

/// Panels that have no place, or that of another.
pub(super) fn problems(panels: &[Value]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut placed: Vec<(&Value, Area)> = Vec::new();
    for panel in panels {
        let title = &panel["title"];
        match Area::of(panel) {
            None => problems.push(format!("panel {title}: no place on the grid")),
            Some(area) => {
                let over = placed.iter().filter(|(_, other)| area.covers(*other));
                problems.extend(over.map(|(other, _)| format!("panel {title} is over {other}")));
                placed.push((title, area));
            }
        }
    }
    problems
}
