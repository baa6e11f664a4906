#!/bin/bash
# Installs the C library for other builds:
#   client/c/install.sh PREFIX [--programs FOLDER]
# makes PREFIX/lib/libweightd.so*, PREFIX/include/weightd.h and PREFIX/lib/pkgconfig/weightd.pc, of `bazel build --config=opt` or
# of what lies in FOLDER (as bazel-bin has it). PREFIX may be moved afterwards. DESTDIR is put before it, as make install does.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1

fail() {
  echo "install: $*" >&2
  exit 1
}

[[ ${1-} == /* ]] || fail "usage: client/c/install.sh PREFIX [--programs FOLDER]; PREFIX is an absolute path"
prefix=${DESTDIR-}$1
case $#:${2-} in
  1:) programs= ;;
  3:--programs) programs=$3 ;;
  *) fail "unknown argument $2" ;;
esac
if [[ -z $programs ]]; then
  bazel build --config=opt //client/c:libweightd.so.0 >&2 || fail "the build failed"
  programs=$(readlink -f bazel-bin)
fi
library=$programs/client/c/libweightd.so.0
[[ -f $library ]] || fail "$programs has no client/c/libweightd.so.0"

version=$(sed -n 's/.*kVersion\[\] = "\(.*\)";/\1/p' common/version.h)
install -d "$prefix"/{include,lib/pkgconfig}
# Replaced, never written over: processes may have it mapped.
install -m 755 "$library" "$prefix/lib/.libweightd.new"
mv -f "$prefix/lib/.libweightd.new" "$prefix/lib/libweightd.so.$version"
ln -sfn "libweightd.so.$version" "$prefix/lib/libweightd.so.0"
ln -sfn libweightd.so.0 "$prefix/lib/libweightd.so"
install -m 644 client/c/include/weightd.h "$prefix/include/"
sed "s/@VERSION@/$version/" client/c/weightd.pc.in >"$prefix/lib/pkgconfig/weightd.pc"
