#!/bin/bash
# Packs weightd for x86-64 Linux of glibc 2.36 or newer: programs, the C library, and all libraries they need but glibc's. Needs
# no root.
#   deploy/tarball.sh [--programs FOLDER] [--out FOLDER]
# makes weightd-VERSION-linux-x86_64.tar.gz in FOLDER (dist), of `bazel build --config=opt` or of the programs in FOLDER (as
# bazel-bin has them), and prints its path. The same programs give the same bytes.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
  echo "tarball: $*" >&2
  exit 1
}

programs=
out=dist
while (($# > 0)); do
  case $1 in
    --programs) programs=${2:?} ;;
    --out) out=${2:?} ;;
    *) fail "unknown argument $1" ;;
  esac
  shift 2
done

for tool in patchelf strip dpkg-query; do
  command -v "$tool" >/dev/null || fail "$tool is missing; run deploy/install_deps.sh"
done
if [[ -z $programs ]]; then
  bazel build --config=opt //daemon:weightd //daemon/keeper:weightd-keeper //client/cli:weightctl //client/c:libweightd.so.0 >&2 ||
    fail "the build failed"
  programs=$(readlink -f bazel-bin)
fi

version=$(sed -n 's/.*kVersion\[\] = "\(.*\)";/\1/p' common/version.h)
name=weightd-$version-linux-x86_64
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
root=$scratch/$name
mkdir -p "$root"/{bin,lib,share/licenses}

# What comes with every glibc, in the version of the node: its own libraries must fit one another and the kernel.
of_glibc='^(ld-linux-x86-64|libc|libm|libmvec|libpthread|libdl|librt|libresolv|libutil|libanl|libnss_[a-z]+)\.so'

# Lines "NAME PATH" of the libraries that a program needs, directly or not.
libraries_of() {
  local missing
  missing=$(ldd "$@" | grep 'not found') && fail "libraries are missing:" $missing
  ldd "$@" | sed -n 's/^\t\(\S*\) => \(\/\S*\) .*/\1 \2/p' | sort -u | grep -vE "$of_glibc"
}

# Lines "PATH PACKAGE" for those of the paths on standard input that a package has. dpkg knows some by their place before
# /lib became a link, and fails if one of many is nobody's.
packages_of() {
  sed 'p;s,^/usr,,' | { xargs dpkg-query -S 2>/dev/null || true; } | sed -n 's,^\([^: ]*\):.* \(/usr\)\?\(/.*\),\3 \1,p'
}

for program in daemon/weightd daemon/keeper/weightd-keeper client/cli/weightctl; do
  install -m 755 "$programs/$program" "$root/bin/" || fail "$programs has no $program"
done
# Stripped first: strip doesn't expect what patchelf leaves.
strip "$root"/bin/*
patchelf --set-rpath '$ORIGIN/../lib' "$root"/bin/*
libraries_of "$programs"/{daemon/weightd,daemon/keeper/weightd-keeper,client/cli/weightctl,client/c/libweightd.so.0} \
  >"$scratch/libraries"
declare -A packages
while read -r path package; do
  packages[$path]=$package
done < <(cut -d ' ' -f 2 "$scratch/libraries" | xargs readlink -f | packages_of)
while read -r library path; do
  install -m 644 "$path" "$root/lib/$library"
  path=$(readlink -f "$path")
  package=${packages[${path#/usr}]-}
  [[ -n $package ]] || fail "no package has $path, and so nobody knows its licence"
  install -m 644 "/usr/share/doc/$package/copyright" "$root/share/licenses/$package"
done <"$scratch/libraries"
# What engines embed: lib/libweightd.so, include/weightd.h, lib/pkgconfig/weightd.pc.
client/c/install.sh "$root" --programs "$programs"
strip --strip-unneeded "$root/lib/libweightd.so.$version"
find "$root/lib" -maxdepth 1 -type f -exec patchelf --set-rpath '$ORIGIN' {} \;
# The texts that those refer to.
cp -rL /usr/share/common-licenses "$root/share/licenses/common-licenses"

install -m 644 LICENSE deploy/CHANGELOG.md "$root"
install -m 644 deploy/README.md "$root/share/README.md"
cp -r deploy/systemd deploy/examples "$root/share/"
chmod -R u=rwX,go=rX "$root"

mkdir -p "$out"
tar --create --sort=name --format=gnu --owner=0 --group=0 --numeric-owner --mtime="@${SOURCE_DATE_EPOCH:-0}" \
  --directory "$scratch" "$name" | gzip --no-name >"$scratch/tarball"
mv "$scratch/tarball" "$out/$name.tar.gz"
echo "$out/$name.tar.gz"
