#!/bin/sh
# What Bazel stamps programs with: the commit of the source. The environment says it where there is a copy of the source
# without its history, as in an image's build.
revision=${WEIGHTD_SOURCE_REVISION-$(git --no-optional-locks describe --always --dirty --abbrev=40 --exclude='*' 2>/dev/null)}
echo "STABLE_SOURCE_REVISION $revision"
