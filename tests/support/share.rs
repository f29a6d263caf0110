//! A share as servers of Windows offer it, mounted through FUSE and kept in memory: names that differ only in case are one
//! name, there are no hard links, nothing changes modes, and no rename says that it must not replace.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

/// Mounted as long as it lives; dropped, it is gone, as a server is that is switched off.
pub struct Share {
    _session: BackgroundSession,
}

impl Share {
    /// Mounts an empty one at `at`, which is made. Errors: what the system says.
    pub fn mount(at: &Path) -> std::io::Result<Self> {
        std::fs::create_dir_all(at)?;
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("share".into())];
        let nodes = BTreeMap::from([(INodeNo::ROOT.0, Node::folder())]);
        let session = fuser::spawn_mount(Caseless(Mutex::new(Nodes { nodes, last: INodeNo::ROOT.0 })), at, &config)?;
        Ok(Self { _session: session })
    }
}

struct Caseless(Mutex<Nodes>);

struct Nodes {
    nodes: BTreeMap<u64, Node>,
    last: u64,
}

struct Node {
    written: SystemTime,
    what: What,
}

enum What {
    File(Vec<u8>),
    /// By name in small letters: the name as it was written first, and the node.
    Folder(BTreeMap<String, (String, u64)>),
}

type Outcome<T> = Result<T, Errno>;

impl Node {
    fn folder() -> Self {
        Self { written: SystemTime::now(), what: What::Folder(BTreeMap::new()) }
    }

    fn is_folder(&self) -> bool {
        matches!(self.what, What::Folder(_))
    }
}

fn text(name: &OsStr) -> Outcome<(String, String)> {
    let name = name.to_str().ok_or(Errno::EINVAL)?;
    Ok((name.to_lowercase(), name.to_owned()))
}

impl Nodes {
    fn names(&mut self, folder: INodeNo) -> Outcome<&mut BTreeMap<String, (String, u64)>> {
        match self.nodes.get_mut(&folder.0).map(|node| &mut node.what) {
            Some(What::Folder(names)) => Ok(names),
            Some(What::File(_)) => Err(Errno::ENOTDIR),
            None => Err(Errno::ENOENT),
        }
    }

    fn bytes(&mut self, file: INodeNo) -> Outcome<&mut Vec<u8>> {
        match self.nodes.get_mut(&file.0).map(|node| &mut node.what) {
            Some(What::File(bytes)) => Ok(bytes),
            Some(What::Folder(_)) => Err(Errno::EISDIR),
            None => Err(Errno::ENOENT),
        }
    }

    fn find(&mut self, folder: INodeNo, name: &OsStr) -> Outcome<u64> {
        let (small, _) = text(name)?;
        self.names(folder)?.get(&small).map(|(_, node)| *node).ok_or(Errno::ENOENT)
    }

    fn make(&mut self, folder: INodeNo, name: &OsStr, node: Node) -> Outcome<FileAttr> {
        if self.find(folder, name).is_ok() {
            return Err(Errno::EEXIST);
        }
        self.last += 1;
        let number = self.last;
        let (small, written) = text(name)?;
        self.names(folder)?.insert(small, (written, number));
        self.nodes.insert(number, node);
        self.attributes(number)
    }

    fn remove(&mut self, folder: INodeNo, name: &OsStr, of_folders: bool) -> Outcome<()> {
        let number = self.find(folder, name)?;
        match &self.nodes.get(&number).ok_or(Errno::ENOENT)?.what {
            What::Folder(_) if !of_folders => return Err(Errno::EISDIR),
            What::File(_) if of_folders => return Err(Errno::ENOTDIR),
            What::Folder(names) if !names.is_empty() => return Err(Errno::ENOTEMPTY),
            _ => {}
        }
        let (small, _) = text(name)?;
        self.names(folder)?.remove(&small);
        // Whoever has it open reads on from the kernel's pages; the tests do not.
        self.nodes.remove(&number);
        Ok(())
    }

    fn rename(&mut self, from: (INodeNo, &OsStr), to: (INodeNo, &OsStr)) -> Outcome<()> {
        let number = self.find(from.0, from.1)?;
        if let Ok(replaced) = self.find(to.0, to.1)
            && replaced != number
        {
            let of_folders = self.nodes.get(&replaced).is_some_and(Node::is_folder);
            self.remove(to.0, to.1, of_folders)?;
        }
        let ((old, _), (small, written)) = (text(from.1)?, text(to.1)?);
        self.names(from.0)?.remove(&old);
        self.names(to.0)?.insert(small, (written, number));
        Ok(())
    }

    fn attributes(&self, number: u64) -> Outcome<FileAttr> {
        let node = self.nodes.get(&number).ok_or(Errno::ENOENT)?;
        let (kind, size) = match &node.what {
            What::File(bytes) => (FileType::RegularFile, bytes.len() as u64),
            What::Folder(_) => (FileType::Directory, 0),
        };
        Ok(FileAttr {
            ino: INodeNo(number),
            size,
            blocks: size.div_ceil(512),
            atime: node.written,
            mtime: node.written,
            ctime: node.written,
            crtime: UNIX_EPOCH,
            kind,
            perm: 0o777,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }
}

impl Caseless {
    fn nodes(&self) -> std::sync::MutexGuard<'_, Nodes> {
        self.0.lock().unwrap()
    }
}

/// Nothing is remembered: the next question may be written in other letters.
const AGE: Duration = Duration::ZERO;

fn entry(reply: ReplyEntry, outcome: Outcome<FileAttr>) {
    match outcome {
        Ok(attributes) => reply.entry(&AGE, &attributes, Generation(0)),
        Err(e) => reply.error(e),
    }
}

fn empty(reply: ReplyEmpty, outcome: Outcome<()>) {
    match outcome {
        Ok(()) => reply.ok(),
        Err(e) => reply.error(e),
    }
}

impl Filesystem for Caseless {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut nodes = self.nodes();
        let found = nodes.find(parent, name);
        entry(reply, found.and_then(|number| nodes.attributes(number)));
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.nodes().attributes(ino.0) {
            Ok(attributes) => reply.attr(&AGE, &attributes),
            Err(e) => reply.error(e),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        if mode.is_some() {
            return reply.error(Errno::EPERM);
        }
        let mut nodes = self.nodes();
        let sized = match size {
            Some(size) => nodes.bytes(ino).map(|bytes| bytes.resize(size as usize, 0)),
            None => Ok(()),
        };
        match sized.and_then(|()| nodes.attributes(ino.0)) {
            Ok(attributes) => reply.attr(&AGE, &attributes),
            Err(e) => reply.error(e),
        }
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        let made = self.nodes().make(parent, name, Node::folder());
        entry(reply, made);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.nodes().remove(parent, name, false));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.nodes().remove(parent, name, true));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if !flags.is_empty() {
            return reply.error(Errno::EINVAL);
        }
        empty(reply, self.nodes().rename((parent, name), (newparent, newname)));
    }

    fn link(&self, _: &Request, _: INodeNo, _: INodeNo, _: &OsStr, reply: ReplyEntry) {
        reply.error(Errno::EPERM);
    }

    fn create(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, _: i32, reply: ReplyCreate) {
        let file = Node { written: SystemTime::now(), what: What::File(Vec::new()) };
        match self.nodes().make(parent, name, file) {
            Ok(attributes) => reply.created(&AGE, &attributes, Generation(0), FileHandle(0), FopenFlags::empty()),
            Err(e) => reply.error(e),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.nodes().bytes(ino) {
            Ok(bytes) => {
                let from = bytes.len().min(offset as usize);
                reply.data(&bytes[from..bytes.len().min(from + size as usize)]);
            }
            Err(e) => reply.error(e),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.nodes().bytes(ino) {
            Ok(bytes) => {
                let end = offset as usize + data.len();
                bytes.resize(bytes.len().max(end), 0);
                bytes[offset as usize..end].copy_from_slice(data);
                reply.written(data.len() as u32);
            }
            Err(e) => reply.error(e),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let mut nodes = self.nodes();
        let names: Vec<(String, u64)> = match nodes.names(ino) {
            Ok(names) => names.values().cloned().collect(),
            Err(e) => return reply.error(e),
        };
        for (n, (name, number)) in names.into_iter().enumerate().skip(offset as usize) {
            let kind = match nodes.nodes.get(&number).is_some_and(Node::is_folder) {
                true => FileType::Directory,
                false => FileType::RegularFile,
            };
            if reply.add(INodeNo(number), n as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        reply.statfs(1 << 20, 1 << 20, 1 << 20, 1 << 20, 1 << 20, 4096, 255, 4096);
    }
}
