// A certified OpenID provider on loopback, for `make conformance`: `node serve.mjs` with its port,
// the site's address and a name of its keys. It asks for nothing but a click.
import { generateKeyPairSync } from 'node:crypto';
import { Provider } from 'oidc-provider';
const [port, site, kid] = process.argv.slice(2);
const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
const back = `${site}/api/v1/auth/oauth/example`;
const account = (sub) => ({ accountId: sub, claims: () => ({ sub, email: `${sub}@elsewhere.org`, email_verified: true }) });
const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [{
    client_id: 'greenroom', client_secret: 'a secret: +/&', grant_types: ['authorization_code', 'refresh_token'],
    redirect_uris: [`${back}/callback`], post_logout_redirect_uris: [`${site}/`],
    backchannel_logout_uri: `${back}/backchannel-logout`, backchannel_logout_session_required: true,
  }],
  jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), kid, use: 'sig', alg: 'RS256' }] },
  claims: { openid: ['sub'], email: ['email', 'email_verified'] },
  findAccount: (_, sub) => account(sub),
  issueRefreshToken: () => true,
  // By itself it calls nobody on this machine.
  fetch: (url, { dispatcher, ...options }) => fetch(url, options),
  features: { backchannelLogout: { enabled: true } },
});
provider.on('backchannel.error', (_, error) => console.error(error));
provider.listen(Number(port), '127.0.0.1', () => console.log('listening'));
