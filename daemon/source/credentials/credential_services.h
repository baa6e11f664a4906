#ifndef WEIGHTD_DAEMON_SOURCE_CREDENTIALS_CREDENTIAL_SERVICES_H_
#define WEIGHTD_DAEMON_SOURCE_CREDENTIALS_CREDENTIAL_SERVICES_H_

#include <memory>
#include <string>

#include "daemon/source/credentials/credential_source.h"

// Credentials that a service gives for a while, because of where this process runs.

namespace weightd::source {

// AWS_WEB_IDENTITY_TOKEN_FILE: the token of a Kubernetes service account, read anew each time, is
// exchanged for credentials of AWS_ROLE_ARN (with the name AWS_ROLE_SESSION_NAME) by the STS of
// `region` (empty: the global one), or by AWS_ENDPOINT_URL_STS.
std::unique_ptr<CredentialSource> MakeWebIdentitySource(Environment environment,
                                                        std::string region);

// AWS_CONTAINER_CREDENTIALS_RELATIVE_URI below `host`, or AWS_CONTAINER_CREDENTIALS_FULL_URI:
// agents of ECS and EKS. Without TLS only loopback and the agents' addresses are asked. What
// AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE holds, read anew each time, or
// AWS_CONTAINER_AUTHORIZATION_TOKEN, is sent along.
std::unique_ptr<CredentialSource> MakeContainerSource(Environment environment,
                                                      std::string host = "http://169.254.170.2");

// The role of this EC2 instance, by version 2 of the instance metadata service only: version 1
// answers whoever can make a process of the node send a request. Nobody configured it if
// AWS_EC2_METADATA_DISABLED is true, nobody takes connections, the service is switched off, or the
// instance has no role.
std::unique_ptr<CredentialSource> MakeMetadataSource(Environment environment);

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_CREDENTIALS_CREDENTIAL_SERVICES_H_
