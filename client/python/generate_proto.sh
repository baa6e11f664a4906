#!/bin/bash
# Generates weightd/v1/*_pb2.py and .pyi from proto/ with Debian 12's protoc (3.21, the daemon's own): its code is read
# by every protobuf runtime from 4.21 on. A test compares what is committed with what this makes.
#   generate_proto.sh [OUTPUT_FOLDER]      default: src
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${1:-$here/src}
cd "$here/../../proto"
exec protoc --proto_path=. --python_out="$out" --pyi_out="$out" \
  weightd/v1/{admin,error,handles,tensor_index,weights}.proto
