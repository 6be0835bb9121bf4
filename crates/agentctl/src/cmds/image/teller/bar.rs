//! The bar. Invariant: it stands beneath everything else on the terminal, and nothing is left of it.

use std::time::Instant;

use ghost_proto::agentpb::ImageProgress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::super::words;
use crate::output;
use crate::progress::Rate;

/// A bar where the end is known, else a spinner.
#[derive(Debug, Default)]
pub(in super::super) struct Bar {
    shown: Option<Shown>,
}

#[derive(Debug)]
struct Shown {
    bar: ProgressBar,
    rate: Rate,
    progress: ImageProgress,
}

impl Bar {
    /// Shows how far it is.
    pub(super) fn show(&mut self, progress: ImageProgress, now: Instant) {
        let mut shown = self.shown.take().unwrap_or_else(Shown::new);
        if (&shown.progress.template, &shown.progress.stage)
            != (&progress.template, &progress.stage)
        {
            shown.rate.clear();
        }
        shown.rate.count(now, u64::try_from(progress.done_bytes).unwrap_or(0));
        shown.progress = progress;
        shown.draw(now);
        self.shown = Some(shown);
    }

    /// Draws it as it is `now`.
    pub(super) fn tick(&self, now: Instant) {
        if let Some(shown) = &self.shown {
            shown.draw(now);
            shown.bar.tick();
        }
    }

    /// Removes it until there is more to show.
    pub(super) fn clear(&mut self) {
        self.shown = None;
    }
}

impl Shown {
    fn new() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        Self { bar, rate: Rate::default(), progress: ImageProgress::default() }
    }

    fn draw(&self, now: Instant) {
        let Self { bar, rate, progress } = self;
        let length = u64::try_from(progress.total_bytes).ok().filter(|total| *total > 0);
        let looks = if length.is_some() { "{msg} [{wide_bar}]" } else { "{spinner} {msg}" };
        if let Ok(style) = ProgressStyle::with_template(looks) {
            bar.set_style(style.progress_chars("=> "));
        }
        let doing = words::doing(progress, rate.per_second(now));
        bar.set_message(format!("{}: {doing}", output::printable(&progress.template)));
        match length {
            Some(length) => bar.set_length(length),
            None => bar.unset_length(),
        }
        bar.set_position(u64::try_from(progress.done_bytes).unwrap_or(0));
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
