//! A tree of XML elements, written by quick-xml. Invariant: whatever an attribute or a text holds,
//! a reader of the document finds exactly that, or U+FFFD for characters that XML 1.0 can't hold.

use std::borrow::Cow;
use std::io;

use quick_xml::Writer;
use quick_xml::events::{BytesEnd, BytesStart, BytesText, Event};

/// An element; its name, and the names of its attributes, are literals of this crate.
#[derive(Debug, Clone)]
pub(crate) struct Element {
    name: &'static str,
    attributes: Vec<(&'static str, String)>,
    text: Option<String>,
    children: Vec<Element>,
}

impl Element {
    /// An empty element.
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, attributes: Vec::new(), text: None, children: Vec::new() }
    }

    /// With an attribute.
    pub(crate) fn attr(mut self, name: &'static str, value: impl ToString) -> Self {
        self.attributes.push((name, value.to_string()));
        self
    }

    /// With a text, before all children.
    pub(crate) fn text(mut self, text: impl ToString) -> Self {
        self.text = Some(text.to_string());
        self
    }

    /// With a child, after those it has.
    pub(crate) fn child(mut self, child: Self) -> Self {
        self.children.push(child);
        self
    }

    /// With children, after those it has.
    pub(crate) fn children(mut self, children: impl IntoIterator<Item = Self>) -> Self {
        self.children.extend(children);
        self
    }

    /// The element as a document.
    pub(crate) fn render(&self) -> io::Result<String> {
        let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
        self.write(&mut writer)?;
        String::from_utf8(writer.into_inner()).map_err(io::Error::other)
    }

    fn write(&self, writer: &mut Writer<Vec<u8>>) -> io::Result<()> {
        let mut start = BytesStart::new(self.name);
        for (name, value) in &self.attributes {
            start.push_attribute((*name, legal(value).as_ref()));
        }
        if self.text.is_none() && self.children.is_empty() {
            return writer.write_event(Event::Empty(start));
        }
        writer.write_event(Event::Start(start))?;
        if let Some(text) = &self.text {
            writer.write_event(Event::Text(BytesText::new(&legal(text))))?;
        }
        for child in &self.children {
            child.write(writer)?;
        }
        writer.write_event(Event::End(BytesEnd::new(self.name)))
    }
}

/// Whether XML 1.0 can hold it, escaped or not (section 2.2, `Char`).
pub(crate) fn is_legal(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// Replaces what XML 1.0 can't hold.
fn legal(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_legal) {
        return Cow::Borrowed(text);
    }
    text.chars()
        .map(|c| if is_legal(c) { c } else { char::REPLACEMENT_CHARACTER })
        .collect::<String>()
        .into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_reader_finds_what_was_written(text in "\\PC{0,40}", value in "\\PC{0,40}") {
            let xml = Element::new("a").child(Element::new("b").attr("v", &value).text(&text)).render().unwrap();
            let read = roxmltree::Document::parse(&xml).unwrap();
            let b = read.root_element().first_element_child().unwrap();
            let (value, text) = (legal(&value), legal(&text));
            prop_assert_eq!(b.attribute("v"), Some(value.as_ref()));
            prop_assert_eq!(b.text().unwrap_or_default(), text.as_ref());
        }

        #[test]
        fn nothing_can_break_out_of_its_place(text in "[<>&'\"\\]!\\[CDATA/a-z\u{0}\u{fffe} -]{0,40}") {
            let xml = Element::new("a").attr("v", &text).child(Element::new("b").text(&text)).render().unwrap();
            let read = roxmltree::Document::parse(&xml).unwrap();
            let names: Vec<_> = read.descendants().filter(|n| n.is_element()).map(|n| n.tag_name().name()).collect();
            prop_assert_eq!(names, ["a", "b"]);
            let text = legal(&text);
            prop_assert_eq!(read.root_element().attribute("v"), Some(text.as_ref()));
        }
    }
}
