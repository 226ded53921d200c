//! A plot of horizontal bars in groups, each bar with its number and a word beside it.

use super::svg::{Anchor, Svg};

const WIDTH: f64 = 860.0;
/// Where bars begin, and the longest ends.
const LEFT: f64 = 200.0;
const RIGHT: f64 = 610.0;
const BAR: f64 = 14.0;
const GAP: f64 = 3.0;
const GROUP_GAP: f64 = 11.0;

/// What is drawn.
pub(super) struct Chart {
    pub(super) title: String,
    pub(super) subtitle: String,
    pub(super) groups: Vec<Group>,
    pub(super) scale: Scale,
    /// What the colours mean, where that is not told by the labels.
    pub(super) legend: Vec<(Colour, String)>,
}

/// Bars with one label.
pub(super) struct Group {
    pub(super) label: String,
    pub(super) bars: Vec<Bar>,
}

pub(super) struct Bar {
    pub(super) value: f64,
    /// What stands at its end.
    pub(super) note: String,
    pub(super) colour: Colour,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Colour {
    Ours,
    OursLight,
    Theirs,
    TheirsLight,
    Floor,
    FloorLight,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    /// From zero.
    Linear,
    /// From a power of ten below all.
    Log,
    /// Ratios: from 1, to the right above it and to the left below it, as far for 1/2 as for 2.
    Ratio,
}

impl Colour {
    fn class(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::OursLight => "ours2",
            Self::Theirs => "theirs",
            Self::TheirsLight => "theirs2",
            Self::Floor => "floor",
            Self::FloorLight => "floor2",
        }
    }
}

/// Values to places on the x axis.
struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
}

impl Axis {
    fn new(scale: Scale, values: impl Iterator<Item = f64>) -> Self {
        let (mut least, mut most) = (f64::INFINITY, 0.0_f64);
        for value in values.filter(|value| value.is_finite() && *value > 0.0) {
            (least, most) = (least.min(value), most.max(value));
        }
        if most == 0.0 {
            (least, most) = (1.0, 1.0);
        }
        let (low, high) = match scale {
            Scale::Linear => (0.0, most),
            Scale::Log => (10_f64.powf((least / 1.5).log10().floor()), most),
            Scale::Ratio => (least.min(0.7), most.max(1.5)),
        };
        Self { scale, low, high }
    }

    fn place(&self, value: f64) -> f64 {
        let part = match self.scale {
            Scale::Linear => value / self.high,
            _ => (value / self.low).ln() / (self.high / self.low).ln(),
        };
        LEFT + part.clamp(0.0, 1.0) * (RIGHT - LEFT)
    }

    /// Where bars begin.
    fn origin(&self) -> f64 {
        if self.scale == Scale::Ratio { self.place(1.0) } else { LEFT }
    }

    /// The values at which lines are drawn.
    fn ticks(&self) -> Vec<f64> {
        match self.scale {
            Scale::Linear => {
                let step = nice(self.high / 4.0);
                let steps = (self.high / step).floor() as u32;
                (0..=steps).map(|tick| f64::from(tick) * step).collect()
            }
            Scale::Log | Scale::Ratio => {
                let powers = self.low.log10().ceil() as i32..=self.high.log10().floor() as i32;
                powers.map(|power| 10_f64.powi(power)).collect()
            }
        }
    }
}

/// 1, 2 or 5 times a power of ten, not below the value.
fn nice(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= value);
    factor.unwrap_or(10.0) * power
}

impl Chart {
    /// The plot as an SVG file.
    pub(super) fn draw(&self) -> String {
        let values = self.groups.iter().flat_map(|group| &group.bars).map(|bar| bar.value);
        let axis = Axis::new(self.scale, values);
        let mut svg = Svg::new(WIDTH);
        svg.text(16.0, 28.0, "title", Anchor::Start, &self.title);
        svg.text(16.0, 48.0, "small", Anchor::Start, &self.subtitle);
        let top = self.draw_legend(&mut svg, 68.0);
        let rows = |group: &Group| group.bars.len() as f64 * (BAR + GAP) + GROUP_GAP;
        let bottom = top + self.groups.iter().map(rows).sum::<f64>();
        for tick in axis.ticks() {
            let x = axis.place(tick);
            svg.line([x, top - 4.0], [x, bottom], "grid");
            svg.text(x, bottom + 16.0, "small", Anchor::Middle, &tick_label(tick));
        }
        let mut y = top;
        for group in &self.groups {
            draw_group(&mut svg, &axis, group, y);
            y += rows(group);
        }
        if self.scale == Scale::Ratio {
            svg.line([axis.origin(), top - 4.0], [axis.origin(), bottom], "one");
        }
        svg.finish(bottom + 30.0, &format!("{}: {}", self.title, self.subtitle))
    }

    /// Returns where what is below begins.
    fn draw_legend(&self, svg: &mut Svg, y: f64) -> f64 {
        let mut x = LEFT;
        for (colour, text) in &self.legend {
            svg.bar([x, y - 10.0], [11.0, 11.0], colour.class(), text);
            svg.text(x + 16.0, y, "small", Anchor::Start, text);
            x += 40.0 + 7.0 * text.chars().count() as f64;
        }
        if self.legend.is_empty() { y } else { y + 18.0 }
    }
}

fn draw_group(svg: &mut Svg, axis: &Axis, group: &Group, top: f64) {
    let height = group.bars.len() as f64 * (BAR + GAP) - GAP;
    svg.text(LEFT - 10.0, top + height / 2.0 + 4.5, "", Anchor::End, &group.label);
    let mut y = top;
    for bar in &group.bars {
        let (from, to) = (axis.origin(), axis.place(bar.value));
        let (x, width) = (from.min(to), (to - from).abs().max(1.5));
        let hint = format!("{} {}", group.label, bar.note);
        svg.bar([x, y], [width, BAR], bar.colour.class(), &hint);
        // Never left of the beginning, where bars of losses grow to.
        svg.text(from.max(to) + 6.0, y + BAR - 3.0, "small", Anchor::Start, &bar.note);
        y += BAR + GAP;
    }
}

fn tick_label(tick: f64) -> String {
    match tick {
        large if large >= 1e6 => format!("{} M", large / 1e6),
        large if large >= 1e3 => format!("{} k", large / 1e3),
        _ => format!("{}", (tick * 1e6).round() / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(scale: Scale, values: &[f64]) -> Chart {
        let bar = |value: &f64| Bar { value: *value, note: "n".into(), colour: Colour::Ours };
        let group = Group { label: "g".into(), bars: values.iter().map(bar).collect() };
        Chart {
            title: "t".into(),
            subtitle: "s".into(),
            groups: vec![group],
            scale,
            legend: Vec::new(),
        }
    }

    #[test]
    fn twice_the_value_is_twice_the_bar() {
        let axis = Axis::new(Scale::Linear, [2.0, 4.0].into_iter());
        let length = |value| axis.place(value) - LEFT;
        assert!((length(4.0) / length(2.0) - 2.0).abs() < 1e-9);
        assert!((axis.place(4.0) - RIGHT).abs() < 1e-9);
    }

    #[test]
    fn a_ratio_grows_from_one_to_either_side_alike() {
        let axis = Axis::new(Scale::Ratio, [0.25, 4.0].into_iter());
        let (left, right) = (axis.origin() - axis.place(0.5), axis.place(2.0) - axis.origin());
        assert!(left > 10.0 && (left - right).abs() < 1e-9, "{left} {right}");
    }

    #[test]
    fn what_cannot_be_drawn_does_not_break_the_rest() {
        for scale in [Scale::Linear, Scale::Log, Scale::Ratio] {
            for values in [&[][..], &[f64::NAN], &[0.0, 5.0], &[1e-9, 1e9]] {
                let svg = chart(scale, values).draw();
                assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            }
        }
    }
}
