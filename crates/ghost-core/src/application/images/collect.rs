//! Which images go. A pure function of what is cached and what is used.

use crate::domain::{Bytes, CachedImage, Checksum};

/// What the cache may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Versions of each template, the current one included; at least 1 (`images.keep_versions`).
    pub versions: usize,
    /// What all files may take (`images.cache_limit_gb`).
    pub limit: Option<Bytes>,
}

impl Default for Retention {
    /// The current versions only, as many as there are templates.
    fn default() -> Self {
        Self { versions: 1, limit: None }
    }
}

/// The images to remove: first those that nothing refers to, then, while the rest takes more than the limit,
/// the least recently used of those that no VM is based on.
pub(super) fn plan<'a>(
    images: &'a [CachedImage],
    retention: Retention,
    is_used: &dyn Fn(&Checksum) -> bool,
) -> Vec<&'a CachedImage> {
    let wanted = |image: &CachedImage| {
        !image.current_of.is_empty()
            || image.former_of.iter().any(|(_, age)| *age < retention.versions)
    };
    let free = images.iter().filter(|image| !is_used(&image.checksum));
    let (mut evictable, mut removed): (Vec<_>, Vec<_>) = free.partition(|image| wanted(image));
    let Some(limit) = retention.limit else { return removed };
    let size = |images: &mut dyn Iterator<Item = &CachedImage>| -> u64 {
        images.map(|image| image.size.0).sum()
    };
    let mut total = size(&mut images.iter()) - size(&mut removed.iter().copied());
    evictable.sort_by_key(|image| image.used_at);
    for image in evictable {
        if total <= limit.0 {
            break;
        }
        total -= image.size.0;
        removed.push(image);
    }
    removed
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::domain::Condition;

    /// `name` is a digit; `roles` such as `c` for current, `1` for the last but one.
    fn image(name: u8, role: char, size: u64, used: i64) -> CachedImage {
        let template = || "debian-12".parse().unwrap();
        let at = Timestamp::from_second(used).unwrap();
        CachedImage {
            checksum: format!("{name:064}").parse().unwrap(),
            size: Bytes(size),
            virtual_size: Bytes(1),
            current_of: if role == 'c' { vec![template()] } else { Vec::new() },
            former_of: match role.to_digit(10) {
                Some(age) => vec![(template(), age as usize)],
                None => Vec::new(),
            },
            fetched_at: at,
            used_at: at,
            asked_at: None,
            verified_at: at,
            condition: Condition::Proven,
        }
    }

    fn removed(images: &[CachedImage], retention: Retention, used: &[u8]) -> String {
        let used: Vec<String> = used.iter().map(|name| format!("{name:064}")).collect();
        let is_used = |c: &Checksum| used.iter().any(|hex| hex == c.hex());
        let plan = plan(images, retention, &is_used);
        plan.iter().map(|image| &image.checksum.hex()[63..]).collect()
    }

    #[test]
    fn what_nothing_refers_to_goes_and_former_versions_stay_as_configured() {
        let all =
            [image(1, 'c', 1, 0), image(2, '1', 1, 0), image(3, '2', 1, 0), image(4, '-', 1, 0)];
        let keep = |versions| Retention { versions, limit: None };
        assert_eq!(removed(&all, keep(1), &[]), "234");
        assert_eq!(removed(&all, keep(2), &[]), "34");
        assert_eq!(removed(&all, keep(3), &[]), "4");
        assert_eq!(removed(&all, keep(1), &[2, 4]), "3");
    }

    #[test]
    fn beyond_the_limit_the_least_recently_used_go_but_never_a_vms() {
        let all = [image(1, 'c', 10, 3), image(2, 'c', 10, 1), image(3, 'c', 10, 2)];
        let limit = |bytes| Retention { versions: 1, limit: Some(Bytes(bytes)) };
        assert_eq!(removed(&all, limit(30), &[]), "");
        assert_eq!(removed(&all, limit(29), &[]), "2");
        assert_eq!(removed(&all, limit(29), &[2]), "3");
        assert_eq!(removed(&all, limit(1), &[2]), "31");
    }

    proptest! {
        #[test]
        fn a_used_image_never_goes_and_the_limit_holds_unless_vms_need_more(
            rows in proptest::collection::vec((prop_oneof![Just('c'), Just('-'), Just('1'), Just('2')], 1_u64..100, 0_i64..9, any::<bool>()), 0..9),
            versions in 1_usize..3, limit in proptest::option::of(0_u64..300)
        ) {
            let images: Vec<_> = (0_u8..).zip(&rows).map(|(n, (role, size, used, _))| image(n, *role, *size, *used)).collect();
            let used: Vec<u8> = (0_u8..).zip(&rows).filter(|(_, row)| row.3).map(|(n, _)| n).collect();
            let gone = removed(&images, Retention { versions, limit: limit.map(Bytes) }, &used);
            prop_assert!(used.iter().all(|n| !gone.contains(&n.to_string())));
            let stays = |n: &usize| !gone.contains(&n.to_string());
            let left: u64 = (0..rows.len()).filter(stays).map(|n| rows[n].1).sum();
            let needed: u64 = rows.iter().filter(|row| row.3).map(|row| row.1).sum();
            prop_assert!(limit.is_none_or(|limit| left <= limit.max(needed)));
        }
    }
}
