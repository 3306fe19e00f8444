#!/bin/sh
# Takes the cluster's list of revoked certificates, if its authority has signed it: take_revoked.sh FOLDER URL OWNER.
set -eu
cd "$1"
umask 077
ETCDCTL_API=3 etcdctl --endpoints="$2" --cacert=ca.pem --cert=member.pem --key=member-key.pem \
    get --print-value-only /etcd-resize/revoked >.revoked
[ -s .revoked ] || exit 0
openssl crl -in .revoked -CAfile ca.pem -noout 2>&1 | grep -qx 'verify OK'
chown "$3" .revoked
mv .revoked revoked.pem
