//! JSON that is YAML 1.1, too. Invariant: PyYAML and any JSON reader find the same values in it.
//!
//! cloud-init reads YAML with PyYAML, which is stricter than JSON in two places: it refuses some
//! characters that JSON lets stand unescaped (`Reader.NON_PRINTABLE`: DEL, U+FFFE, U+FFFF), and it
//! folds U+0085, U+2028 and U+2029 as line breaks. Beyond U+FFFF it is the other way round: there JSON's
//! escapes are surrogate pairs, which PyYAML doesn't join. So: everything from U+007F to U+FFFF is
//! escaped, and nothing above.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter};

/// `value` as JSON with one key a line, ending in a newline.
pub(super) fn to_string(value: &impl Serialize) -> Result<String, serde_json::Error> {
    let mut out = Vec::new();
    let formatter = YamlSafe(PrettyFormatter::new());
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, formatter))?;
    out.push(b'\n');
    String::from_utf8(out).map_err(|error| serde_json::Error::io(io::Error::other(error)))
}

struct YamlSafe(PrettyFormatter<'static>);

impl Formatter for YamlSafe {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        out: &mut W,
        text: &str,
    ) -> io::Result<()> {
        for c in text.chars() {
            match u32::from(c) {
                code @ 0x7f..=0xffff => write!(out, "\\u{code:04x}")?,
                _ => out.write_all(c.encode_utf8(&mut [0; 4]).as_bytes())?,
            }
        }
        Ok(())
    }

    fn begin_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_array(out)
    }

    fn end_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_array(out)
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(out, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_array_value(out)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_object(out)
    }

    fn end_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object(out)
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(out, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_object_value(out)
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object_value(out)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn line_separators_are_escaped_and_characters_beyond_the_basic_plane_are_not() {
        let json = to_string(&"a\u{2028}\u{7f}é\u{1f600}").unwrap();
        assert_eq!(json, "\"a\\u2028\\u007f\\u00e9\u{1f600}\"\n");
    }

    proptest! {
        #[test]
        fn every_text_comes_back_unaltered(text in any::<String>()) {
            let json = to_string(&[&text]).unwrap();
            prop_assert_eq!(serde_json::from_str::<[String; 1]>(&json).unwrap(), [text]);
        }
    }
}
