//! The few shapes that a plot needs, as SVG. Colours follow the reader's theme, light or dark.

use std::fmt::Write;

/// Grey enough for both themes, for whoever shows no styles.
const STYLE: &str = "\
text{font:13px system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;fill:#24292f}\
.title{font-size:17px;font-weight:600}\
.small{font-size:12px;fill:#59636e}\
.ours{fill:#d9480f}.ours2{fill:#f08c4a}\
.theirs{fill:#1c6ea4}.theirs2{fill:#74b0d8}\
.floor{fill:#868e96}.floor2{fill:#c1c7cd}\
.grid{stroke:#8c959f;stroke-opacity:.35}.one{stroke:#59636e;stroke-dasharray:4 3}\
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.small{fill:#9198a1}\
.theirs{fill:#4493d0}.theirs2{fill:#2b5f8a}.ours2{fill:#a8501f}\
.floor{fill:#7d8590}.floor2{fill:#4d555e}.one{stroke:#9198a1}}";

/// A picture that is being drawn.
pub(super) struct Svg {
    width: f64,
    body: String,
}

/// Where a text stands relative to its place.
#[derive(Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

impl Svg {
    pub(super) fn new(width: f64) -> Self {
        Self { width, body: String::new() }
    }

    pub(super) fn text(&mut self, x: f64, y: f64, class: &str, anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        self.push(&format!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\" text-anchor=\"{anchor}\">{}</text>",
            escaped(text)
        ));
    }

    /// A bar with a word for whoever points at it.
    pub(super) fn bar(&mut self, at: [f64; 2], size: [f64; 2], class: &str, hint: &str) {
        let ([x, y], [width, height]) = (at, size);
        self.push(&format!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"2\" \
             class=\"{class}\"><title>{}</title></rect>",
            escaped(hint)
        ));
    }

    pub(super) fn line(&mut self, from: [f64; 2], to: [f64; 2], class: &str) {
        self.push(&format!(
            "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" class=\"{class}\"/>",
            from[0], from[1], to[0], to[1]
        ));
    }

    /// The whole file, for a picture of this height.
    pub(super) fn finish(self, height: f64, title: &str) -> String {
        let (width, title) = (self.width, escaped(title));
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" \
             width=\"{width:.0}\" height=\"{height:.0}\" role=\"img\" aria-label=\"{title}\">\n\
             <style>{STYLE}</style>\n{}</svg>\n",
            self.body
        )
    }

    fn push(&mut self, element: &str) {
        writeln!(self.body, "{element}").expect("a string takes all");
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_brackets_are_escaped() {
        let mut svg = Svg::new(100.0);
        svg.text(1.0, 2.0, "small", Anchor::End, "Mutex<HashMap> & \"co\"");
        let file = svg.finish(50.0, "a < b");
        assert!(file.contains(">Mutex&lt;HashMap&gt; &amp; &quot;co&quot;<"), "{file}");
        assert!(file.contains("aria-label=\"a &lt; b\"") && file.ends_with("</svg>\n"), "{file}");
    }
}
