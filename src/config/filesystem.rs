//! Which filesystems cannot hold the store.

use std::path::Path;

/// The name of the network filesystem that `path` is on, or `None` when it is local or nobody can tell.
#[cfg(target_os = "linux")]
pub fn network_kind(path: &Path) -> Option<String> {
    // Numbers from statfs(2). FUSE is both: a local encrypted folder, or sshfs; only the mount table tells them apart.
    const FUSE: i64 = 0x6573_5546;
    let magic = rustix::fs::statfs(path).ok()?.f_type as i64;
    if magic == FUSE {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
        let kind = mount_kind(&mounts, &std::fs::canonicalize(path).ok()?)?;
        return is_network_fuse(&kind).then_some(kind);
    }
    magic_name(magic).map(str::to_owned)
}

#[cfg(not(target_os = "linux"))]
pub fn network_kind(_: &Path) -> Option<String> {
    None
}

#[cfg(target_os = "linux")]
fn magic_name(magic: i64) -> Option<&'static str> {
    // The kernel's numbers have 32 bits, and arrive sign-extended on some platforms.
    Some(match magic as u32 {
        0x6969 => "nfs",
        0x517b => "smb",
        0xfe53_4d42 => "smb2",
        0xff53_4d42 => "cifs",
        0x00c3_6400 => "ceph",
        0x5346_414f | 0x6b41_4653 => "afs",
        0x7375_7245 => "coda",
        0x564c => "ncp",
        0x0bd0_0bd0 => "lustre",
        0x4750_4653 => "gpfs",
        _ => return None,
    })
}

/// The type of the mount that holds `path`, from the text of `mountinfo` (proc(5)).
#[cfg(target_os = "linux")]
fn mount_kind(mounts: &str, path: &Path) -> Option<String> {
    mounts
        .lines()
        .filter_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let point = left.split(' ').nth(4)?.replace("\\040", " ");
            let kind = right.split(' ').next()?;
            path.starts_with(&point).then(|| (point.len(), kind.to_owned()))
        })
        // A later mount covers an earlier one at the same place.
        .max_by_key(|(length, _)| *length)
        .map(|(_, kind)| kind)
}

#[cfg(target_os = "linux")]
fn is_network_fuse(kind: &str) -> bool {
    const REMOTE: [&str; 12] = [
        "sshfs",
        "s3fs",
        "rclone",
        "gluster",
        "gcsfuse",
        "goofys",
        "curlftpfs",
        "davfs",
        "juicefs",
        "mount-s3",
        "blobfuse",
        "ceph",
    ];
    REMOTE.iter().any(|name| kind.contains(name))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn network_filesystems_are_known_by_their_numbers() {
        assert_eq!(magic_name(0x6969), Some("nfs"));
        assert_eq!(magic_name(0xff53_4d42_u32 as i32 as i64), Some("cifs"));
        // ext4, tmpfs, overlayfs
        for local in [0xef53, 0x0102_1994, 0x794c_7630] {
            assert_eq!(magic_name(local), None);
        }
        assert_eq!(network_kind(Path::new("/")), None);
    }

    #[test]
    fn the_mount_that_holds_a_path_is_the_longest() {
        let mounts = "22 1 0:20 / / rw - ext4 /dev/sda rw\n\
                      30 22 0:40 / /home/a\\040b/remote rw,nosuid - fuse.sshfs host: rw\n\
                      31 22 0:41 / /home/x rw - fuse.gocryptfs /y rw\n";
        let kind = |path: &str| mount_kind(mounts, Path::new(path)).unwrap();
        assert_eq!(kind("/home/a b/remote/keep"), "fuse.sshfs");
        assert!(is_network_fuse(&kind("/home/a b/remote")));
        assert!(!is_network_fuse(&kind("/home/x/keep")));
        assert_eq!(kind("/home/a b"), "ext4");
    }
}
