//! Listings that a server gives a page at a time, each of at most 1,000 names: walked here for every object store.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};

use super::{Key, Level, MOST_FOLDERS, MOST_OBJECTS, ObjectInfo, too_many_folders};
use crate::error::{Error, Result};

/// One page, with the full names that the server has.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// Objects and their bytes.
    pub(super) objects: Vec<(String, u64)>,
    /// What lies in between, each with a slash at its end.
    pub(super) folders: Vec<String>,
    /// What the next page is asked for with; `None`: this is the last.
    pub(super) next: Option<String>,
}

/// A server that lists in pages.
#[async_trait]
pub(super) trait Paged: Send + Sync + 'static {
    /// What every full name of ours begins with: empty, or ending in a slash.
    fn base(&self) -> &str;

    /// Where it is, for messages.
    fn place(&self) -> &str;

    /// A page of what begins with `below`. `folders`: what lies deeper is told by its folder alone.
    async fn page(&self, below: &str, folders: bool, next: Option<String>) -> Result<Page>;
}

/// What the full names below `prefix` begin with: empty, or ending in a slash.
pub(super) fn below(base: &str, prefix: Option<&Key>) -> String {
    prefix.map_or_else(|| base.to_owned(), |prefix| format!("{base}{prefix}/"))
}

/// Where a listing stands between two pages.
enum Next {
    Page(Page),
    Ask(String),
}

/// All objects below `prefix`; memory: one page.
pub(super) async fn objects<P: Paged>(
    server: &Arc<P>,
    prefix: Option<&Key>,
) -> Result<BoxStream<'static, Result<ObjectInfo>>> {
    let below = below(server.base(), prefix);
    // The first page is fetched here, so that a bucket that is not there fails the call.
    let first = server.page(&below, false, None).await?;
    let server = Arc::clone(server);
    let pages = stream::try_unfold(Some(Next::Page(first)), move |next| {
        let (server, below) = (Arc::clone(&server), below.clone());
        async move {
            let page = match next {
                None => return Ok::<_, Error>(None),
                Some(Next::Page(page)) => page,
                Some(Next::Ask(token)) => server.page(&below, false, Some(token)).await?,
            };
            let objects = page.objects.into_iter().filter_map(|(name, size)| {
                // A name that is not ours to give (`folder/`, `a//b`) is not ours.
                let key = Key::new(name.strip_prefix(server.base())?).ok()?;
                Some(Ok(ObjectInfo { key, size }))
            });
            Ok(Some((stream::iter(objects.collect::<Vec<_>>()), page.next.map(Next::Ask))))
        }
    });
    Ok(pages.try_flatten().boxed())
}

/// What lies directly below `prefix`.
pub(super) async fn level<P: Paged>(server: &P, prefix: Option<&Key>) -> Result<Level> {
    let below = below(server.base(), prefix);
    let mut names = BTreeSet::new();
    let (mut objects, mut has_more) = (Vec::new(), false);
    let mut next = None;
    loop {
        let page = server.page(&below, true, next).await?;
        for full in &page.folders {
            if let Some(name) = full.strip_prefix(&below).and_then(|name| name.strip_suffix('/'))
                && Key::new(name).is_ok()
            {
                names.insert(name.to_owned());
            }
        }
        if names.len() > MOST_FOLDERS {
            return Err(too_many_folders(server.place()));
        }
        for (full, size) in page.objects {
            // The mark of a folder, as some tools make it, is no object of ours.
            let is_here = full.strip_prefix(&below).is_some_and(|name| !name.is_empty() && !name.contains('/'));
            let key = full.strip_prefix(server.base()).filter(|_| is_here).and_then(|key| Key::new(key).ok());
            match key {
                Some(_) if objects.len() == MOST_OBJECTS => has_more = true,
                Some(key) => objects.push(ObjectInfo { key, size }),
                None => {}
            }
        }
        next = page.next;
        if next.is_none() {
            objects.sort_by(|a, b| a.key.cmp(&b.key));
            return Ok(Level { folders: names.into_iter().collect(), objects, has_more });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::error::ErrorKind;

    /// Gives its names one by one.
    struct Slow {
        names: Vec<&'static str>,
        asked: AtomicUsize,
        fails_at: usize,
    }

    #[async_trait]
    impl Paged for Slow {
        fn base(&self) -> &str {
            "ours/"
        }

        fn place(&self) -> &str {
            "slow://"
        }

        async fn page(&self, below: &str, folders: bool, next: Option<String>) -> Result<Page> {
            let at: usize = next.map_or(0, |next| next.parse().unwrap());
            if self.asked.fetch_add(1, Ordering::SeqCst) == self.fails_at {
                return Err(Error::new(ErrorKind::Transient, "busy"));
            }
            let name = self.names[at];
            let rest = name.strip_prefix(below);
            let folder = rest.and_then(|rest| rest.split_once('/')).map(|(first, _)| format!("{below}{first}/"));
            let page = match (folders, rest) {
                (_, None) => Page::default(),
                (true, Some(_)) if folder.is_some() => {
                    Page { folders: folder.into_iter().collect(), ..Page::default() }
                }
                (_, Some(_)) => Page { objects: vec![(name.to_owned(), 1)], ..Page::default() },
            };
            Ok(Page { next: (at + 1 < self.names.len()).then(|| (at + 1).to_string()), ..page })
        }
    }

    fn slow(fails_at: usize) -> Arc<Slow> {
        let names = vec!["ours/a/x", "ours/a/y", "ours/a//z", "ours/b/", "ours/b/c/d", "ours/e", "theirs/f"];
        Arc::new(Slow { names, asked: AtomicUsize::new(0), fails_at })
    }

    #[tokio::test]
    async fn pages_become_one_listing_of_what_is_ours() {
        let all: Vec<ObjectInfo> = objects(&slow(99), None).await.unwrap().try_collect().await.unwrap();
        let keys: Vec<&str> = all.iter().map(|object| object.key.as_str()).collect();
        assert_eq!(keys, ["a/x", "a/y", "b/c/d", "e"]);
        let keys = |level: &Level| level.objects.iter().map(|o| o.key.to_string()).collect::<Vec<_>>();
        let root = level(&*slow(99), None).await.unwrap();
        assert_eq!(
            (&root.folders[..], keys(&root), root.has_more),
            (&["a".into(), "b".into()][..], vec!["e".into()], false)
        );
        let a = level(&*slow(99), Some(&Key::new("a").unwrap())).await.unwrap();
        assert_eq!((a.folders.len(), keys(&a)), (0, vec!["a/x".to_owned(), "a/y".to_owned()]));
        let b = level(&*slow(99), Some(&Key::new("b").unwrap())).await.unwrap();
        assert_eq!((&b.folders[..], keys(&b).len()), (&["c".to_owned()][..], 0));
    }

    #[tokio::test]
    async fn a_page_that_fails_ends_the_listing_with_its_error() {
        assert_eq!(objects(&slow(0), None).await.err().unwrap().kind(), ErrorKind::Transient);
        let mut listing = objects(&slow(2), None).await.unwrap();
        let (mut seen, mut failed) = (0, None);
        while let Some(next) = listing.next().await {
            match next {
                Ok(_) => seen += 1,
                Err(e) => failed = Some(e.kind()),
            }
        }
        assert_eq!((seen, failed), (2, Some(ErrorKind::Transient)));
        assert!(level(&*slow(3), None).await.is_err());
    }
}
