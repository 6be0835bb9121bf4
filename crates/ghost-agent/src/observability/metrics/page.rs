//! Writes metrics as the catalogue describes them. Invariant: a metric without a sample is not mentioned.

use std::fmt;

use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabel as _, EncodeLabelSet, EncodeMetric, LabelSetEncoder,
    MetricEncoder, NoLabelSet,
};

use super::catalog::{Kind, Metric};

/// What is being rendered.
#[derive(Debug)]
pub(super) struct Page<'a>(pub(super) DescriptorEncoder<'a>);

/// A label's values, in the order in which the catalogue names them.
struct Labels<'a> {
    names: &'static [&'static str],
    values: &'a [&'a str],
}

impl EncodeLabelSet for Labels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        self.names
            .iter()
            .zip(self.values)
            .try_for_each(|(name, value)| (*name, *value).encode(encoder.encode_label()))
    }
}

impl Page<'_> {
    /// A metric without labels.
    pub(super) fn one(&mut self, metric: &Metric, value: f64) -> fmt::Result {
        sample(metric, &mut self.describe(metric)?, value)
    }

    /// A metric that may not be there.
    pub(super) fn maybe(&mut self, metric: &Metric, value: Option<f64>) -> fmt::Result {
        value.map_or(Ok(()), |value| self.one(metric, value))
    }

    /// A metric with labels.
    pub(super) fn each<'v, const N: usize>(
        &mut self,
        metric: &Metric,
        samples: impl IntoIterator<Item = ([&'v str; N], f64)>,
    ) -> fmt::Result {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return Ok(());
        }
        let mut encoder = self.describe(metric)?;
        for (values, value) in samples {
            let labels = Labels { names: metric.labels, values: &values };
            sample(metric, &mut encoder.encode_family(&labels)?, value)?;
        }
        Ok(())
    }

    /// 1 for the state that something is in, 0 for its others.
    pub(super) fn one_hot<const N: usize>(
        &mut self,
        metric: &Metric,
        states: [&str; N],
        now: &str,
    ) -> fmt::Result {
        self.each(metric, states.map(|state| ([state], flag(state == now))))
    }

    /// What is counted as it happens.
    pub(super) fn counted(&mut self, metric: &Metric, counted: &impl EncodeMetric) -> fmt::Result {
        counted.encode(self.describe(metric)?)
    }

    fn describe<'s>(&'s mut self, metric: &Metric) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.0.encode_descriptor(metric.base(), metric.help, metric.unit(), metric.kind())
    }
}

fn sample(metric: &Metric, encoder: &mut MetricEncoder<'_>, value: f64) -> fmt::Result {
    match metric.kind {
        Kind::Counter => encoder.encode_counter::<NoLabelSet, f64, f64>(&value, None),
        Kind::Gauge => encoder.encode_gauge(&value),
        // They are counted as they happen.
        Kind::Histogram => Err(fmt::Error),
    }
}

/// 1 or 0.
pub(super) fn flag(is: bool) -> f64 {
    f64::from(u8::from(is))
}

/// A number of things; exact up to 2^53.
pub(super) fn number(of: impl TryInto<u64>) -> f64 {
    of.try_into().unwrap_or(u64::MAX) as f64
}
