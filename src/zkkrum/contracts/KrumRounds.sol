// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ISlasher} from "./ISlasher.sol";
import {IVerifier} from "./IVerifier.sol";

/// @title Rounds of committed updates, judged by the Krum rule in zero knowledge.
/// @notice The life of a round: the round operator opens it with a roster; every roster client posts its own commitment;
/// anyone submits a proof of the verdict; after a challenge delay, flagged clients are reported to a slasher.
/// The contract computes the round's `context` and assembles the public inputs from what it stored, so a proof can
/// neither replace, leave out or reorder a commitment nor be replayed in another round, contract or chain.
/// A flag says that a client was flagged under the stated rule, never that malice was proved.
/// @dev Bound at construction to one verifier and to the circuit constants that verifier was rendered for. Nothing checks
/// that the two belong together but the tool that writes both (`zkkrum export`, re-checked by `zkkrum export --check`).
/// Clients are numbered from 0 in roster order; bit i of a bitmap is client i.
contract KrumRounds {
    // ---------------------------------------------------------------------------------------------------------- types

    /// @notice Constants of the circuit, hence of its verification key. Names as in the zkkrum protocol.
    struct Constants {
        /// @dev Id of the score rule, ASCII, left-aligned, zero-filled; so is `detection`.
        bytes32 score;
        bytes32 detection;
        uint32 n;
        uint32 d;
        uint32 b;
        uint32 chunk;
        uint32 f;
        uint32 m;
        /// @dev Thresholds z and γ as fractions in lowest terms.
        uint32 zNumerator;
        uint32 zDenominator;
        uint32 gammaNumerator;
        uint32 gammaDenominator;
    }

    /// @notice To whom flagged clients are reported and what they lose. Fixed, so clients know it before they commit.
    struct Slashing {
        ISlasher slasher;
        address avs;
        uint32 operatorSetId;
        /// @dev Seconds between the verdict and the first moment of slashing, in [1, MAX_CHALLENGE_DELAY].
        uint32 challengeDelay;
        address[] strategies;
        uint256[] wadsToSlash;
    }

    /// @notice How a round ended. Only `Flagged` is grounds for slashing.
    /// @dev None: undecided. Honest: proved that the rule finds nobody. Flagged: proved, bitmap not empty.
    /// Unattributed: proved that the rule finds somebody malicious but can name nobody. Void: no verdict in time.
    enum Outcome {
        None,
        Honest,
        Flagged,
        Unattributed,
        Void
    }

    /// @notice Who may do what: `Operator` opens rounds, `Vetoer` spares clients during the challenge delay.
    enum Role {
        Operator,
        Vetoer
    }

    /// @dev A round as stored. Two slots at opening, one per commitment, one or two at the verdict, one at settlement.
    struct Round {
        /// @dev Contract whose code is a STOP byte and the roster, 20 bytes per address (a fifth of the gas of storage slots).
        address roster;
        uint48 commitDeadline;
        uint48 proofDeadline;
        uint256 context;
        Outcome outcome;
        uint48 slashableFrom;
        uint256 flagged;
        /// @dev Flagged clients that were slashed or spared.
        uint256 settled;
        /// @dev Only the first N are used (of MAX_CLIENTS, which cannot stand here). Zero: not posted.
        uint256[253] commitments;
    }

    /// @notice A round as shown. `outcome` is `Void` from the moment it can only become void.
    struct RoundView {
        uint256 context;
        uint48 commitDeadline;
        uint48 proofDeadline;
        Outcome outcome;
        uint48 slashableFrom;
        uint256 flagged;
        uint256 settled;
        address[] roster;
        uint256[] commitments;
    }

    // --------------------------------------------------------------------------------------------------------- errors

    /// @notice A constructor argument breaks the named bound.
    error BadConstants(string bound);
    /// @notice A slashing parameter breaks the named bound.
    error BadSlashing(string bound);
    /// @notice The caller does not hold the role, or was not offered it.
    error NotAuthorized(address caller, Role role);
    /// @notice A role cannot be given to the zero address.
    error ZeroAddress();
    /// @notice A round id is used once, whatever became of the round.
    error RoundIdUsed(bytes32 roundId);
    /// @notice No round was opened under this id.
    error UnknownRound(bytes32 roundId);
    /// @notice The clip is not the binary64 pattern of a finite number above zero.
    error BadClip(uint64 clip);
    /// @notice Deadlines must be in the future and in order.
    error BadDeadlines(uint48 commitDeadline, uint48 proofDeadline);
    /// @notice The roster must have exactly n addresses.
    error BadRosterLength(uint256 length, uint256 n);
    /// @notice Roster addresses must be distinct and not zero.
    error BadRosterAddress(uint256 index, address client);
    /// @notice Only the roster address at the index may post that commitment.
    error NotInRoster(address caller, uint256 index);
    /// @notice A commitment must be in (0, P).
    error NotCanonical(uint256 commitment);
    /// @notice A client commits once.
    error AlreadyCommitted(uint256 index);
    /// @notice The deadline has passed.
    error TooLate(uint256 deadline);
    /// @notice The round is not void yet, or slashing is still in its challenge delay.
    error TooEarly(uint256 notBefore);
    /// @notice The client's commitment is missing.
    error MissingCommitment(uint256 index);
    /// @notice The round has its outcome already.
    error AlreadyDecided(Outcome outcome);
    /// @notice The claimed outputs cannot be those of the circuit.
    error BadVerdict(uint256 malicious, uint256 flagged, uint256 selected);
    /// @notice The verifier returned false (verifiers rendered by bb revert with errors of their own instead).
    error ProofRejected();
    /// @notice Some of these clients are not flagged, or were slashed or spared before.
    error NotPending(uint256 clients);
    /// @notice The slasher called back.
    error Reentered();

    // --------------------------------------------------------------------------------------------------------- events

    /// @notice A round is open. Clients check all of it, and `contextOf`, before they commit.
    event RoundOpened(
        bytes32 indexed roundId,
        uint256 context,
        uint64 clip,
        bytes32 subject,
        uint48 commitDeadline,
        uint48 proofDeadline,
        address[] roster
    );
    /// @notice A client committed to its update.
    event Committed(bytes32 indexed roundId, address indexed client, uint256 index, uint256 commitment);
    /// @notice A proof was verified. `selected` is the rule's choice; it is not stored.
    event Verdict(bytes32 indexed roundId, Outcome indexed outcome, uint256 flagged, uint256 selected);
    /// @notice The round ended without a verdict; nobody can be slashed for it.
    event RoundVoided(bytes32 indexed roundId);
    /// @notice These flagged clients will not be slashed.
    event Spared(bytes32 indexed roundId, uint256 clients);
    /// @notice The slasher accepted the report.
    event Slashed(bytes32 indexed roundId, address indexed client, uint256 index);
    /// @notice The slasher refused the report; it stays pending and anyone may try again.
    event SlashFailed(bytes32 indexed roundId, address indexed client, uint256 index, bytes reason);
    /// @notice A role is offered; it moves when the candidate accepts.
    event RoleOffered(Role indexed role, address indexed candidate);
    /// @notice A role has a new holder.
    event RoleTransferred(Role indexed role, address indexed from, address indexed to);

    // ------------------------------------------------------------------------------------------------------ constants

    /// @notice Order of the BN254 scalar field.
    uint256 public constant P = 0x30644e72e131a029b85045b68181585d2833e84879b9709143e1f593f0000001;
    /// @notice First word of every context.
    bytes32 public constant PROTOCOL = "zkkrum-1";
    /// @notice Most clients of a round: a bitmap must be a field element.
    uint256 public constant MAX_CLIENTS = 253;
    /// @notice Longest challenge delay, in seconds.
    uint256 public constant MAX_CHALLENGE_DELAY = 365 days;
    /// @dev Positive infinity in binary64; the patterns of positive finite numbers are those in (0, INFINITY).
    uint64 private constant INFINITY = 0x7ff0000000000000;

    /// @notice The verifier of the circuit with the constants below.
    IVerifier public immutable VERIFIER;
    bytes32 private immutable SCORE;
    bytes32 private immutable DETECTION;
    uint256 private immutable N;
    uint256 private immutable D;
    uint256 private immutable B;
    uint256 private immutable CHUNK;
    uint256 private immutable F;
    uint256 private immutable M;
    uint256 private immutable Z_NUMERATOR;
    uint256 private immutable Z_DENOMINATOR;
    uint256 private immutable GAMMA_NUMERATOR;
    uint256 private immutable GAMMA_DENOMINATOR;

    // ---------------------------------------------------------------------------------------------------------- state

    Slashing private _slashing;
    mapping(bytes32 roundId => Round) private _rounds;
    /// @notice Who holds a role.
    mapping(Role => address) public holder;
    /// @notice Who was offered a role and has not accepted yet.
    mapping(Role => address) public candidate;
    bool private transient _entered;

    // ---------------------------------------------------------------------------------------------------- construction

    /// @param verifier Rendered for exactly `circuit`.
    /// @param circuit Constants of the circuit.
    /// @param slashing Whom to tell about flagged clients, and what they lose.
    /// @param operator First holder of `Role.Operator`.
    /// @param vetoer First holder of `Role.Vetoer`.
    constructor(
        IVerifier verifier,
        Constants memory circuit,
        Slashing memory slashing,
        address operator,
        address vetoer
    ) {
        _checkConstants(circuit);
        if (address(verifier).code.length == 0) revert BadConstants("verifier has code");
        VERIFIER = verifier;
        SCORE = circuit.score;
        DETECTION = circuit.detection;
        N = circuit.n;
        D = circuit.d;
        B = circuit.b;
        CHUNK = circuit.chunk;
        F = circuit.f;
        M = circuit.m;
        Z_NUMERATOR = circuit.zNumerator;
        Z_DENOMINATOR = circuit.zDenominator;
        GAMMA_NUMERATOR = circuit.gammaNumerator;
        GAMMA_DENOMINATOR = circuit.gammaDenominator;

        _checkSlashing(slashing);
        _slashing = slashing;
        if (operator == address(0) || vetoer == address(0)) revert ZeroAddress();
        holder[Role.Operator] = operator;
        holder[Role.Vetoer] = vetoer;
        emit RoleTransferred(Role.Operator, address(0), operator);
        emit RoleTransferred(Role.Vetoer, address(0), vetoer);
    }

    /// @dev The bounds that the contract's own arithmetic and bitmaps rest on; the rest is the circuit's business.
    function _checkConstants(Constants memory c) private pure {
        if (c.score == 0 || c.detection == 0) revert BadConstants("rules have ids");
        if (c.n < 3 || c.n > MAX_CLIENTS) revert BadConstants("3 <= n <= 253");
        if (c.d == 0 || c.d >= 1 << 31) revert BadConstants("1 <= d < 2^31");
        if (c.b < 8 || c.b > 16 || c.b % 2 != 0) revert BadConstants("b is 8, 10, 12, 14 or 16");
        if (c.chunk == 0 || c.chunk % (252 / c.b) != 0) revert BadConstants("chunk is a multiple of floor(252 / b)");
        if (2 * uint256(c.f) + 2 >= c.n) revert BadConstants("2f + 2 < n");
        if (c.m == 0 || c.m > c.n - c.f) revert BadConstants("1 <= m <= n - f");
        if (c.zDenominator == 0 || c.gammaDenominator == 0) revert BadConstants("denominators are not zero");
    }

    function _checkSlashing(Slashing memory s) private view {
        if (address(s.slasher).code.length == 0) revert BadSlashing("slasher has code");
        if (s.avs == address(0)) revert BadSlashing("avs is not zero");
        if (s.challengeDelay == 0 || s.challengeDelay > MAX_CHALLENGE_DELAY) revert BadSlashing("challenge delay");
        if (s.strategies.length == 0 || s.strategies.length != s.wadsToSlash.length) {
            revert BadSlashing("one wad per strategy, at least one");
        }
        for (uint256 i = 0; i < s.strategies.length; ++i) {
            if (s.strategies[i] <= (i == 0 ? address(0) : s.strategies[i - 1])) {
                revert BadSlashing("strategies ascend");
            }
            if (s.wadsToSlash[i] == 0 || s.wadsToSlash[i] > 1e18) revert BadSlashing("wads in (0, 1e18]");
        }
    }

    // ---------------------------------------------------------------------------------------------------------- roles

    modifier onlyRole(Role role) {
        if (msg.sender != holder[role]) revert NotAuthorized(msg.sender, role);
        _;
    }

    /// @notice Offers the caller's role to another address; the last offer counts.
    function offerRole(Role role, address to) external onlyRole(role) {
        if (to == address(0)) revert ZeroAddress();
        candidate[role] = to;
        emit RoleOffered(role, to);
    }

    /// @notice Accepts an offered role.
    function acceptRole(Role role) external {
        if (msg.sender != candidate[role]) revert NotAuthorized(msg.sender, role);
        emit RoleTransferred(role, holder[role], msg.sender);
        holder[role] = msg.sender;
        delete candidate[role];
    }

    // --------------------------------------------------------------------------------------------------------- a round

    /// @notice Opens a round. A void round is reopened by opening another one, under a new id.
    /// @param roundId Never used before in this contract.
    /// @param clip Binary64 pattern of the quantization bound: finite, above zero.
    /// @param roster The n clients, distinct, in the order of commitments and bitmap bits.
    /// @param subject SHA-256 of tensor layout and base model, or zero.
    /// @param commitDeadline Last moment to commit, in seconds since the epoch.
    /// @param proofDeadline Last moment to submit a proof.
    /// @return context The first public input of the round's proof.
    function openRound(
        bytes32 roundId,
        uint64 clip,
        address[] calldata roster,
        bytes32 subject,
        uint48 commitDeadline,
        uint48 proofDeadline
    ) external onlyRole(Role.Operator) returns (uint256 context) {
        Round storage round = _rounds[roundId];
        if (round.roster != address(0)) revert RoundIdUsed(roundId);
        if (clip == 0 || clip >= INFINITY) revert BadClip(clip);
        if (block.timestamp >= commitDeadline || commitDeadline >= proofDeadline) {
            revert BadDeadlines(commitDeadline, proofDeadline);
        }
        context = contextOf(roundId, clip, roster, subject);
        round.roster = _storeRoster(roundId, roster);
        round.commitDeadline = commitDeadline;
        round.proofDeadline = proofDeadline;
        round.context = context;
        emit RoundOpened(roundId, context, clip, subject, commitDeadline, proofDeadline, roster);
    }

    /// @notice Posts the caller's commitment.
    /// @param index The caller's position in the roster.
    /// @param commitment A canonical field element; zero is refused (no hash is zero).
    function commit(bytes32 roundId, uint256 index, uint256 commitment) external {
        Round storage round = _existing(roundId);
        uint256 deadline = round.commitDeadline;
        if (block.timestamp > deadline) revert TooLate(deadline);
        if (index >= N || _client(round.roster, index) != msg.sender) revert NotInRoster(msg.sender, index);
        if (commitment == 0 || commitment >= P) revert NotCanonical(commitment);
        if (round.commitments[index] != 0) revert AlreadyCommitted(index);
        round.commitments[index] = commitment;
        emit Committed(roundId, msg.sender, index, commitment);
    }

    /// @notice Submits the verdict and its proof, as soon as all n commitments are there. Anyone may: a valid proof of
    /// another verdict does not exist.
    /// @param proof The proof.
    /// @param malicious 1 iff the rule finds a malicious client.
    /// @param flagged Bitmap of flagged clients.
    /// @param selected Bitmap of selected clients.
    function submit(
        bytes32 roundId,
        bytes calldata proof,
        uint256 malicious,
        uint256 flagged,
        uint256 selected
    ) external returns (Outcome outcome) {
        Round storage round = _existing(roundId);
        if (round.outcome != Outcome.None) revert AlreadyDecided(round.outcome);
        if (block.timestamp > round.proofDeadline) revert TooLate(round.proofDeadline);
        // Also what keeps each of the three canonical, as 2^N <= 2^253 < P.
        if (malicious > 1 || flagged >> N != 0 || selected >> N != 0 || (malicious == 0 && flagged != 0)) {
            revert BadVerdict(malicious, flagged, selected);
        }
        if (!VERIFIER.verify(proof, publicInputs(roundId, malicious, flagged, selected))) revert ProofRejected();

        if (malicious == 0) {
            outcome = Outcome.Honest;
        } else if (flagged == 0) {
            outcome = Outcome.Unattributed;
        } else {
            outcome = Outcome.Flagged;
            round.flagged = flagged;
            round.slashableFrom = uint48(block.timestamp + _slashing.challengeDelay);
        }
        round.outcome = outcome;
        emit Verdict(roundId, outcome, flagged, selected);
    }

    /// @notice Records that a round is void. Anyone may, once a commitment is missing after its deadline or the proof
    /// deadline has passed without a verdict. (`outcomeOf` says so even if nobody calls this.)
    function voidRound(bytes32 roundId) external {
        Round storage round = _existing(roundId);
        if (round.outcome != Outcome.None) revert AlreadyDecided(round.outcome);
        if (outcomeOf(roundId) != Outcome.Void) {
            revert TooEarly(_complete(round) ? round.proofDeadline : round.commitDeadline);
        }
        round.outcome = Outcome.Void;
        emit RoundVoided(roundId);
    }

    // ------------------------------------------------------------------------------------------------------- slashing

    /// @notice Spares flagged clients during the challenge delay.
    /// @param clients Bitmap of whom to spare; all must be pending.
    function veto(bytes32 roundId, uint256 clients) external onlyRole(Role.Vetoer) {
        Round storage round = _pendingIn(roundId, clients);
        if (block.timestamp >= round.slashableFrom) revert TooLate(round.slashableFrom);
        round.settled |= clients;
        emit Spared(roundId, clients);
    }

    /// @notice Reports flagged clients to the slasher, each at most once. Anyone may, after the challenge delay.
    /// A report that the slasher refuses does not hold up the others: it stays pending.
    /// @param clients Bitmap of whom to report (see `pendingOf`); all must be pending.
    /// @return failed Bitmap of those whose report the slasher refused.
    function slash(bytes32 roundId, uint256 clients) external returns (uint256 failed) {
        if (_entered) revert Reentered();
        _entered = true;
        Round storage round = _pendingIn(roundId, clients);
        if (block.timestamp < round.slashableFrom) revert TooEarly(round.slashableFrom);
        round.settled |= clients;

        Slashing memory slashing = _slashing;
        ISlasher.SlashingParams memory params = ISlasher.SlashingParams({
            operator: address(0),
            operatorSetId: slashing.operatorSetId,
            strategies: slashing.strategies,
            wadsToSlash: slashing.wadsToSlash,
            description: description()
        });
        address roster = round.roster;
        for (uint256 i = 0; clients >> i != 0; ++i) {
            if ((clients >> i) & 1 == 0) continue;
            params.operator = _client(roster, i);
            try slashing.slasher.slashOperator(slashing.avs, params) {
                emit Slashed(roundId, params.operator, i);
            } catch (bytes memory reason) {
                failed |= 1 << i;
                emit SlashFailed(roundId, params.operator, i, reason);
            }
        }
        if (failed != 0) round.settled ^= failed;
        _entered = false;
    }

    // ---------------------------------------------------------------------------------------------------------- views

    /// @notice The constants the verifier was rendered for.
    function constants() external view returns (Constants memory) {
        return Constants({
            score: SCORE,
            detection: DETECTION,
            n: uint32(N),
            d: uint32(D),
            b: uint32(B),
            chunk: uint32(CHUNK),
            f: uint32(F),
            m: uint32(M),
            zNumerator: uint32(Z_NUMERATOR),
            zDenominator: uint32(Z_DENOMINATOR),
            gammaNumerator: uint32(GAMMA_NUMERATOR),
            gammaDenominator: uint32(GAMMA_DENOMINATOR)
        });
    }

    /// @notice To whom flagged clients are reported and what they lose.
    function slashingTerms() external view returns (Slashing memory) {
        return _slashing;
    }

    /// @notice What the slasher is told.
    function description() public view returns (string memory) {
        return string.concat("flagged under rule ", _text(DETECTION), " on scores ", _text(SCORE), " (zkkrum)");
    }

    /// @notice The context of a round: SHA-256 of the protocol's 19 words, read big-endian, modulo P.
    /// @param roster Exactly n addresses; their distinctness is checked by `openRound`.
    function contextOf(bytes32 roundId, uint64 clip, address[] calldata roster, bytes32 subject)
        public
        view
        returns (uint256)
    {
        if (roster.length != N) revert BadRosterLength(roster.length, N);
        // Static types: the two halves concatenate to one abi.encode of all the words. encodePacked pads array items.
        bytes memory words = bytes.concat(
            abi.encode(PROTOCOL, SCORE, DETECTION, N, D, B, CHUNK, F, M),
            abi.encode(
                Z_NUMERATOR,
                Z_DENOMINATOR,
                GAMMA_NUMERATOR,
                GAMMA_DENOMINATOR,
                clip,
                sha256(abi.encodePacked(roster)),
                subject,
                roundId,
                block.chainid,
                address(this)
            )
        );
        return uint256(sha256(words)) % P;
    }

    /// @notice The public inputs of the proof of a verdict: context, commitments, malicious, flagged, selected.
    /// Reverts while a commitment is missing.
    function publicInputs(bytes32 roundId, uint256 malicious, uint256 flagged, uint256 selected)
        public
        view
        returns (bytes32[] memory inputs)
    {
        Round storage round = _existing(roundId);
        uint256 n = N;
        inputs = new bytes32[](n + 4);
        inputs[0] = bytes32(round.context);
        for (uint256 i = 0; i < n; ++i) {
            uint256 commitment = round.commitments[i];
            if (commitment == 0) revert MissingCommitment(i);
            inputs[i + 1] = bytes32(commitment);
        }
        inputs[n + 1] = bytes32(malicious);
        inputs[n + 2] = bytes32(flagged);
        inputs[n + 3] = bytes32(selected);
    }

    /// @notice The outcome, `Void` included from the moment no other is possible.
    function outcomeOf(bytes32 roundId) public view returns (Outcome) {
        Round storage round = _existing(roundId);
        if (round.outcome != Outcome.None) return round.outcome;
        bool dead = block.timestamp > round.proofDeadline
            || (block.timestamp > round.commitDeadline && !_complete(round));
        return dead ? Outcome.Void : Outcome.None;
    }

    /// @notice Bitmap of flagged clients that were neither slashed nor spared.
    function pendingOf(bytes32 roundId) public view returns (uint256) {
        Round storage round = _existing(roundId);
        return round.flagged & ~round.settled;
    }

    /// @notice All that is stored of a round.
    function roundOf(bytes32 roundId) external view returns (RoundView memory shown) {
        Round storage round = _existing(roundId);
        shown.context = round.context;
        shown.commitDeadline = round.commitDeadline;
        shown.proofDeadline = round.proofDeadline;
        shown.outcome = outcomeOf(roundId);
        shown.slashableFrom = round.slashableFrom;
        shown.flagged = round.flagged;
        shown.settled = round.settled;
        shown.roster = new address[](N);
        shown.commitments = new uint256[](N);
        for (uint256 i = 0; i < N; ++i) {
            shown.roster[i] = _client(round.roster, i);
            shown.commitments[i] = round.commitments[i];
        }
    }

    // ------------------------------------------------------------------------------------------------------- internals

    function _existing(bytes32 roundId) private view returns (Round storage round) {
        round = _rounds[roundId];
        if (round.roster == address(0)) revert UnknownRound(roundId);
    }

    function _pendingIn(bytes32 roundId, uint256 clients) private view returns (Round storage round) {
        round = _existing(roundId);
        if (clients == 0 || clients & ~pendingOf(roundId) != 0) revert NotPending(clients);
    }

    function _complete(Round storage round) private view returns (bool) {
        for (uint256 i = 0; i < N; ++i) {
            if (round.commitments[i] == 0) return false;
        }
        return true;
    }

    /// @dev Checks that the addresses are distinct and not zero and writes them into the code of a new contract.
    function _storeRoster(bytes32 roundId, address[] calldata roster) private returns (address pointer) {
        uint256 code;
        uint256 size = 1 + 20 * roster.length;
        assembly ("memory-safe") {
            code := mload(0x40)
            // Creation code (10 bytes) returning what follows it: a STOP byte, so that nobody can run it, and the data.
            // PUSH2 size, DUP1, PUSH1 10, RETURNDATASIZE, CODECOPY, RETURNDATASIZE, RETURN; STOP
            mstore(code, shl(168, or(0x61000080600a3d393df300, shl(64, size))))
            // The last mstore below writes up to 12 bytes beyond the data.
            mstore(0x40, add(code, and(add(add(size, 10), 63), not(31))))
        }
        for (uint256 i = 0; i < roster.length; ++i) {
            address client = roster[i];
            // Transient storage as a set. A round id is opened once, so nothing of an earlier call is under these keys.
            bytes32 key = keccak256(abi.encode(roundId, client));
            bool seen;
            assembly ("memory-safe") {
                seen := tload(key)
                tstore(key, 1)
                mstore(add(add(code, 11), mul(i, 20)), shl(96, client))
            }
            if (seen || client == address(0)) revert BadRosterAddress(i, client);
        }
        assembly ("memory-safe") {
            pointer := create(0, code, add(size, 10))
            if iszero(pointer) { revert(0, 0) }
        }
    }

    /// @dev Address i of a stored roster; i must be below n.
    function _client(address roster, uint256 i) private view returns (address client) {
        assembly ("memory-safe") {
            extcodecopy(roster, 0, add(1, mul(i, 20)), 20)
            client := shr(96, mload(0))
        }
    }

    /// @dev A rule id without its filling.
    function _text(bytes32 id) private pure returns (string memory) {
        uint256 length = 0;
        while (length < 32 && id[length] != 0) ++length;
        bytes memory text = new bytes(length);
        for (uint256 i = 0; i < length; ++i) text[i] = id[i];
        return string(text);
    }
}
