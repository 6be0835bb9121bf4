//! The file as sections, keys and values with their lines. Invariant: memory is bounded by the
//! text, because anchors, aliases, tags and anything nested deeper are refused, never expanded.

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput};

use super::rules::{Raw, Scalar, Style};

/// The whole file.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) sections: Vec<Branch>,
    /// What is wrong with the text as YAML: line, problem.
    pub(super) problems: Vec<(usize, String)>,
}

/// One entry of the top level.
#[derive(Debug)]
pub(super) struct Branch {
    pub(super) name: String,
    pub(super) line: usize,
    pub(super) body: Body,
}

/// What stands under a section's name.
#[derive(Debug)]
pub(super) enum Body {
    Leaves(Vec<Leaf>),
    /// Something else than keys; such as `agent: 5`.
    Other,
}

/// One key of a section.
#[derive(Debug)]
pub(super) struct Leaf {
    pub(super) name: String,
    pub(super) line: usize,
    pub(super) value: Value,
}

/// What stands at a key.
#[derive(Debug)]
pub(super) enum Value {
    /// A value, or a list of values.
    Raw(Raw),
    /// Something else, and what.
    Wrong(&'static str),
    /// Something that is in the tree's problems already.
    Noted,
}

/// Reads `text`. Never fails: what cannot be read is in the problems.
pub(super) fn parse(text: &str) -> Tree {
    let mut walker = Walker { parser: Parser::new_from_str(text), tree: Tree::default() };
    if let Err(error) = walker.document() {
        let line = error.marker().line();
        walker.tree.problems.push((line, format!("not readable as YAML: {}", error.info())));
    }
    walker.tree
}

struct Walker<'t> {
    parser: Parser<'t, StrInput<'t>>,
    tree: Tree,
}

/// A node of the YAML, with the line on which it begins.
enum Node {
    Scalar(Scalar),
    List,
    Mapping,
    /// An alias, or something with an anchor or a tag; already skipped.
    Fancy,
    End,
}

type Walk<T> = Result<T, ScanError>;

impl<'t> Walker<'t> {
    fn document(&mut self) -> Walk<()> {
        match self.node()? {
            (Node::Mapping, _) => self.sections()?,
            (Node::End, _) => return Ok(()),
            (Node::Scalar(scalar), _) if scalar.is_null() => {}
            (Node::Fancy, _) => {}
            (node, line) => {
                self.problem(line, "is not made of sections such as `agent:` with keys below");
                self.skip_inside(&node)?;
            }
        }
        if let (Node::Scalar(_) | Node::List | Node::Mapping | Node::Fancy, line) = self.node()? {
            self.problem(line, "a second document begins; one file holds one");
        }
        Ok(())
    }

    fn sections(&mut self) -> Walk<()> {
        while let Some((name, line)) = self.key()? {
            let body = match self.node()?.0 {
                Node::Mapping => Body::Leaves(self.leaves()?),
                Node::Scalar(scalar) if scalar.is_null() => Body::Leaves(Vec::new()),
                Node::Fancy => Body::Leaves(Vec::new()),
                node @ (Node::List | Node::Scalar(_) | Node::End) => {
                    self.skip_inside(&node)?;
                    Body::Other
                }
            };
            if let Some(first) = self.tree.sections.iter().find(|section| section.name == name) {
                let first = first.line;
                self.problem(
                    line,
                    format!("section {name} appears again; it began on line {first}"),
                );
            }
            self.tree.sections.push(Branch { name, line, body });
        }
        Ok(())
    }

    fn leaves(&mut self) -> Walk<Vec<Leaf>> {
        let mut leaves: Vec<Leaf> = Vec::new();
        while let Some((name, line)) = self.key()? {
            let value = match self.node()?.0 {
                Node::Scalar(scalar) => Value::Raw(Raw::One(scalar)),
                Node::List => self.items()?,
                Node::Mapping => {
                    self.skip_inside(&Node::Mapping)?;
                    Value::Wrong("holds keys of its own, where a value is expected")
                }
                Node::Fancy | Node::End => Value::Noted,
            };
            leaves.push(Leaf { name, line, value });
        }
        Ok(leaves)
    }

    fn items(&mut self) -> Walk<Value> {
        let mut items = Vec::new();
        let mut wrong = None;
        loop {
            match self.node()?.0 {
                Node::End => return Ok(wrong.unwrap_or(Value::Raw(Raw::Many(items)))),
                Node::Scalar(scalar) => items.push(scalar),
                Node::Fancy => wrong = Some(Value::Noted),
                node @ (Node::List | Node::Mapping) => {
                    self.skip_inside(&node)?;
                    wrong = Some(Value::Wrong("is a list of something else than texts"));
                }
            }
        }
    }

    /// The next key of a mapping; `None` at its end.
    fn key(&mut self) -> Walk<Option<(String, usize)>> {
        loop {
            match self.node()? {
                (Node::Scalar(scalar), line) => return Ok(Some((scalar.text, line))),
                (Node::End, _) => return Ok(None),
                (node, line) => {
                    self.problem(line, "a key is not a plain word");
                    self.skip_inside(&node)?;
                    let (value, _) = self.node()?;
                    self.skip_inside(&value)?;
                }
            }
        }
    }

    /// The next node, or the end of the collection, document or text that is being read.
    fn node(&mut self) -> Walk<(Node, usize)> {
        loop {
            let Some((event, span)) = self.parser.next_event().transpose()? else {
                return Ok((Node::End, 0));
            };
            let line = span.start.line();
            let (node, fancy) = match event {
                Event::Scalar(text, style, anchor, tag) => {
                    let scalar = Scalar { text: text.into_owned(), style: style_of(style) };
                    (Node::Scalar(scalar), anchor != 0 || tag.is_some())
                }
                Event::SequenceStart(_, anchor, tag) => (Node::List, anchor != 0 || tag.is_some()),
                Event::MappingStart(_, anchor, tag) => {
                    (Node::Mapping, anchor != 0 || tag.is_some())
                }
                Event::Alias(_) => (Node::Fancy, true),
                Event::SequenceEnd | Event::MappingEnd => (Node::End, false),
                Event::StreamEnd => return Ok((Node::End, line)),
                _ => continue,
            };
            if fancy {
                self.problem(
                    line,
                    "anchors, aliases and tags are not accepted; write the value itself",
                );
                self.skip_inside(&node)?;
                return Ok((Node::Fancy, line));
            }
            return Ok((node, line));
        }
    }

    /// Reads to the end of `node`, if it has an inside that was not read.
    fn skip_inside(&mut self, node: &Node) -> Walk<()> {
        let mut depth = match node {
            Node::List | Node::Mapping => 1_usize,
            Node::Scalar(_) | Node::Fancy | Node::End => 0,
        };
        while depth > 0 {
            let Some((event, _)): Option<(Event<'t>, Span)> =
                self.parser.next_event().transpose()?
            else {
                return Ok(());
            };
            match event {
                Event::SequenceStart(..) | Event::MappingStart(..) => depth += 1,
                Event::SequenceEnd | Event::MappingEnd => depth -= 1,
                _ => {}
            }
        }
        Ok(())
    }

    fn problem(&mut self, line: usize, text: impl Into<String>) {
        self.tree.problems.push((line, text.into()));
    }
}

fn style_of(style: ScalarStyle) -> Style {
    match style {
        ScalarStyle::Plain => Style::Plain,
        ScalarStyle::SingleQuoted
        | ScalarStyle::DoubleQuoted
        | ScalarStyle::Literal
        | ScalarStyle::Folded => Style::Quoted,
    }
}
