// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ISlasher} from "./ISlasher.sol";
import {IVerifier} from "./IVerifier.sol";

/// @title Rounds of committed updates, judged by the Krum rule in zero knowledge.
/// @notice The life of a round: the round operator opens it with a roster; every roster client posts its own commitment;
/// anyone proves the verdict, in one transaction (`submit`) or, for rounds of several chunks, in as many as it takes
/// (`begin`, `prove`, `conclude`); after a challenge delay, flagged clients are reported to a slasher.
/// The contract computes the round's `context` itself and recomputes every commitment from the leaves that the proofs
/// open, so a proof can neither replace, leave out or reorder a commitment nor be replayed in another round, contract or
/// chain. A flag says that a client was flagged under the stated rule, never that malice was proved.
/// @dev Bound at construction to the verifiers of one shape and to the circuit constants they were rendered for. Nothing
/// checks that they belong together but the tool that writes all of them (`zkkrum export`, re-checked by `zkkrum export
/// --check`). Clients are numbered from 0 in roster order; bit i of a bitmap is client i. Specification: docs/protocol.md and
/// docs/onchain.md of zkkrum.
contract KrumRounds {
    // ---------------------------------------------------------------------------------------------------------- types

    /// @notice Constants of the circuits, hence of their verification keys. Names as in the zkkrum protocol.
    struct Constants {
        /// @dev Id of the score rule, ASCII, left-aligned, zero-filled; so are `detection` and `acceptance`.
        bytes32 score;
        bytes32 detection;
        bytes32 acceptance;
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

    /// @notice The verifiers of a shape: `round` where all coordinates are one chunk, else the other three, of which
    /// `lastShard` is for a shorter last chunk. Those that a shape does not have are zero.
    struct Verifiers {
        IVerifier round;
        IVerifier shard;
        IVerifier lastShard;
        IVerifier verdict;
    }

    /// @notice To whom flagged clients are reported and what they lose. Fixed, so clients know it before they commit.
    struct Slashing {
        ISlasher slasher;
        address avs;
        uint32 operatorSetId;
        /// @dev Whether a client can commit only while the slasher says that it can be slashed.
        bool askedAtCommit;
        address[] strategies;
        uint256[] wadsToSlash;
    }

    /// @notice Bounds on a round's times, in seconds. Fixed, so clients know them before they commit.
    struct Schedule {
        /// @dev Least time from opening to the last commitment.
        uint32 commitWindow;
        /// @dev From the verdict to the first moment of slashing.
        uint32 challengeDelay;
        /// @dev Most time from opening to the first moment of slashing: what a client has allocated when it commits must
        /// not have left the slasher's reach by then (EigenLayer: 14 days after a deallocation).
        uint32 openToSlashable;
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

    /// @notice Some shards of a claim: a proof, the leaves that it opens, one a client and last the aggregate's, and the
    /// link at which it ends.
    struct Shard {
        bytes proof;
        bytes32[] leaves;
        bytes32 link;
    }

    /// @notice What a proof of the verdict says, as the circuits put it out.
    struct Outputs {
        /// @dev 1 iff the rule finds a malicious client.
        uint256 malicious;
        /// @dev Bitmap of flagged clients.
        uint256 flagged;
        /// @dev Bitmap of selected clients.
        uint256 selected;
    }

    /// @dev A round as stored. One slot at opening, one per commitment, one or two at the verdict, one at settlement.
    struct Round {
        /// @dev Contract whose code is a STOP byte, the context and the roster, 20 bytes per address (a fifth of the gas of
        /// storage slots).
        address terms;
        uint48 commitDeadline;
        uint48 proofDeadline;
        Outcome outcome;
        uint48 slashableFrom;
        uint256 flagged;
        /// @dev Flagged clients that were reported or spared.
        uint256 settled;
        /// @dev Only the first N are used (of MAX_CLIENTS, which cannot stand here). Zero: not posted.
        bytes32[253] commitments;
    }

    /// @dev How far somebody's proof of a sharded round has come. Nobody else can touch it.
    struct Claim {
        /// @dev SHA-256 of ρ, x, s'; zero: not begun.
        bytes32 challenges;
        /// @dev SHA-256 of the n + 1 commitment chains over the chunks so far; zero before the first.
        bytes32 chains;
        /// @dev Link at which the last proved shard ends; zero before the first, which starts at FIRST_LINK.
        bytes32 link;
        /// @dev Chunks proved.
        uint256 next;
    }

    /// @notice A round as shown. `outcome` is `Void` from the moment it can only become void.
    struct RoundView {
        bytes32 context;
        uint48 commitDeadline;
        uint48 proofDeadline;
        Outcome outcome;
        uint48 slashableFrom;
        uint256 flagged;
        uint256 settled;
        address[] roster;
        bytes32[] commitments;
    }

    // --------------------------------------------------------------------------------------------------------- errors

    /// @notice A constructor argument breaks the named bound.
    error BadConstants(string bound);
    /// @notice A verifier that the shape needs is missing, or one is given that it does not have.
    error BadVerifiers(string which);
    /// @notice A slashing parameter breaks the named bound.
    error BadSlashing(string bound);
    /// @notice A time breaks the named bound.
    error BadSchedule(string bound);
    /// @notice The caller does not hold the role, or was not offered it.
    error NotAuthorized(address caller, Role role);
    /// @notice A role cannot be given to the zero address.
    error ZeroAddress();
    /// @notice Operator and vetoer must differ.
    error RolesMustDiffer(address both);
    /// @notice A round id is not zero, and used once, whatever became of the round.
    error RoundIdUsed(bytes32 roundId);
    /// @notice The subject has a round that is undecided, or that was decided.
    error SubjectTaken(bytes32 roundId, Outcome outcome);
    /// @notice No round was opened under this id.
    error UnknownRound(bytes32 roundId);
    /// @notice The clip is not the binary64 pattern of a finite number above zero.
    error BadClip(uint64 clip);
    /// @notice The commit deadline must leave the least window, the proof deadline must come after it, and the challenge
    /// delay after that must end in time.
    error BadDeadlines(uint256 earliestCommitDeadline, uint256 latestProofDeadline);
    /// @notice The roster must have exactly n addresses.
    error BadRosterLength(uint256 length, uint256 n);
    /// @notice Roster addresses must be distinct and not zero.
    error BadRosterAddress(uint256 index, address client);
    /// @notice Only the roster address at the index may post that commitment.
    error NotInRoster(address caller, uint256 index);
    /// @notice The commitment is for another context than the round's: another roster, clip, chain or contract.
    error OtherContext(bytes32 context);
    /// @notice A commitment is any 32 bytes but zero.
    error ZeroCommitment();
    /// @notice A client commits once.
    error AlreadyCommitted(uint256 index);
    /// @notice The slasher says that the client cannot be slashed.
    error NotSlashable(address client);
    /// @notice The deadline has passed.
    error TooLate(uint256 deadline);
    /// @notice The round is not void yet, or slashing is still in its challenge delay.
    error TooEarly(uint256 notBefore);
    /// @notice The client's commitment is missing.
    error MissingCommitment(uint256 index);
    /// @notice The round has its outcome already.
    error AlreadyDecided(Outcome outcome);
    /// @notice Rounds of this many chunks are proved by the other calls: `submit` for one, `begin`, `prove` and `conclude`
    /// for more.
    error OtherForm(uint256 chunks);
    /// @notice A field element must be below P.
    error NotCanonical(uint256 word);
    /// @notice An array does not have the length it must have.
    error BadLength(uint256 length, uint256 expected);
    /// @notice The leaves of the proofs do not make up the commitment of the client at the index.
    error OtherCommitment(uint256 index);
    /// @notice The caller has begun no claim in this round.
    error NoClaim(address caller);
    /// @notice The challenges are not those the claim was begun with.
    error OtherChallenges();
    /// @notice The chains are not those the claim has come to.
    error OtherChains();
    /// @notice A batch has at least one shard, and no more than are missing.
    error BadBatch(uint256 shards, uint256 missing);
    /// @notice Shards are missing.
    error ShardsMissing(uint256 proved, uint256 chunks);
    /// @notice The claimed outputs cannot be those of the circuit.
    error BadVerdict(uint256 malicious, uint256 flagged, uint256 selected);
    /// @notice The verifier returned false (verifiers rendered by bb revert with errors of their own instead).
    error ProofRejected();
    /// @notice The SHA-256 precompile did not answer: out of gas, or this chain has none.
    error Sha256Failed();
    /// @notice Some of these clients are not flagged, or were reported or spared before.
    error NotPending(uint256 clients);
    /// @notice The slasher called back.
    error Reentered();

    // --------------------------------------------------------------------------------------------------------- events

    /// @notice A round is open. Clients check all of it, and `contextOf`, before they commit.
    event RoundOpened(
        bytes32 indexed roundId,
        bytes32 context,
        uint64 clip,
        bytes32 indexed subject,
        uint48 commitDeadline,
        uint48 proofDeadline,
        address[] roster
    );
    /// @notice A client committed to its update.
    event Committed(bytes32 indexed roundId, address indexed client, uint256 index, bytes32 commitment);
    /// @notice Somebody begins to prove a sharded round.
    event ClaimBegun(bytes32 indexed roundId, address indexed sender);
    /// @notice So many of the round's shards are proved in the sender's claim.
    event ShardsProved(bytes32 indexed roundId, address indexed sender, uint256 shards);
    /// @notice A verdict was proved. With `aggregate`, the commitment A of the sum of the accepted clients' values, and the
    /// sum and salt that were handed out, anybody can check the model. `selected` is the rule's choice; it is not stored.
    event Verdict(
        bytes32 indexed roundId,
        address indexed sender,
        Outcome indexed outcome,
        bytes32 aggregate,
        uint256 flagged,
        uint256 selected
    );
    /// @notice The round ended without a verdict; nobody can be slashed for it. `missing` are those who did not commit.
    event RoundVoided(bytes32 indexed roundId, uint256 missing);
    /// @notice These flagged clients will not be slashed.
    event Spared(bytes32 indexed roundId, uint256 clients);
    /// @notice The slasher slashed a client, of these shares, one amount a strategy; not all of them are zero.
    event Slashed(bytes32 indexed roundId, address indexed client, uint256 index, uint256 slashId, uint256[] shares);
    /// @notice The slasher took the report, but there was nothing to slash. The client is reported once all the same.
    event NothingSlashed(bytes32 indexed roundId, address indexed client, uint256 index, uint256 slashId);
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
    bytes32 public constant PROTOCOL = "zkkrum-2";
    /// @notice c_0 = Poseidon2(0, 0, 0), the link at which the first shard starts: a constant of the protocol.
    bytes32 public constant FIRST_LINK = 0x2a5de47ed300af27b706aaa14762fc468f5cfc16cd8116eb6b09b0f2643ca2b9;
    /// @notice Most clients of a round: a bitmap must be a field element.
    uint256 public constant MAX_CLIENTS = 253;
    /// @notice Most time from opening to the first moment of slashing: EigenLayer's deallocation delay.
    uint256 public constant MAX_OPEN_TO_SLASHABLE = 14 days;
    /// @dev Positive infinity in binary64; the patterns of positive finite numbers are those in (0, INFINITY).
    uint64 private constant INFINITY = 0x7ff0000000000000;

    /// @dev SHA-256 of nothing: a chain without the precompile would answer zeros.
    bytes32 private constant EMPTY_SHA256 = 0xe3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855;

    /// @notice Chunks, hence leaves of a client: with one, a round has one proof.
    uint256 public immutable CHUNKS;
    IVerifier private immutable ROUND;
    IVerifier private immutable SHARD;
    IVerifier private immutable LAST_SHARD;
    IVerifier private immutable VERDICT;
    bytes32 private immutable SCORE;
    bytes32 private immutable DETECTION;
    bytes32 private immutable ACCEPTANCE;
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
    uint256 private immutable COMMIT_WINDOW;
    uint256 private immutable CHALLENGE_DELAY;
    uint256 private immutable OPEN_TO_SLASHABLE;
    bool private immutable ASKED_AT_COMMIT;

    // ---------------------------------------------------------------------------------------------------------- state

    Slashing private _slashing;
    mapping(bytes32 roundId => Round) private _rounds;
    mapping(bytes32 roundId => mapping(address sender => Claim)) private _claims;
    /// @notice The last round that was opened for a subject.
    mapping(bytes32 subject => bytes32 roundId) public roundOfSubject;
    /// @notice Who holds a role.
    mapping(Role => address) public holder;
    /// @notice Who was offered a role and has not accepted yet.
    mapping(Role => address) public candidate;
    bool private transient _entered;

    // ---------------------------------------------------------------------------------------------------- construction

    /// @param verifiers_ Rendered for exactly `circuit`.
    /// @param circuit Constants of the circuits.
    /// @param slashing_ Whom to tell about flagged clients, and what they lose.
    /// @param schedule_ Bounds on a round's times.
    /// @param operator First holder of `Role.Operator`.
    /// @param vetoer First holder of `Role.Vetoer`.
    constructor(
        Verifiers memory verifiers_,
        Constants memory circuit,
        Slashing memory slashing_,
        Schedule memory schedule_,
        address operator,
        address vetoer
    ) {
        if (sha256("") != EMPTY_SHA256) revert Sha256Failed();
        _checkConstants(circuit);
        SCORE = circuit.score;
        DETECTION = circuit.detection;
        ACCEPTANCE = circuit.acceptance;
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

        uint256 chunks = (uint256(circuit.d) + circuit.chunk - 1) / circuit.chunk;
        _checkVerifier(verifiers_.round, chunks == 1, "round");
        _checkVerifier(verifiers_.shard, chunks > 1, "shard");
        _checkVerifier(verifiers_.lastShard, chunks > 1 && circuit.d % circuit.chunk != 0, "lastShard");
        _checkVerifier(verifiers_.verdict, chunks > 1, "verdict");
        CHUNKS = chunks;
        ROUND = verifiers_.round;
        SHARD = verifiers_.shard;
        LAST_SHARD = verifiers_.lastShard;
        VERDICT = verifiers_.verdict;

        _checkSlashing(slashing_);
        _slashing = slashing_;
        ASKED_AT_COMMIT = slashing_.askedAtCommit;

        _checkSchedule(schedule_);
        COMMIT_WINDOW = schedule_.commitWindow;
        CHALLENGE_DELAY = schedule_.challengeDelay;
        OPEN_TO_SLASHABLE = schedule_.openToSlashable;

        if (operator == address(0) || vetoer == address(0)) revert ZeroAddress();
        if (operator == vetoer) revert RolesMustDiffer(operator);
        holder[Role.Operator] = operator;
        holder[Role.Vetoer] = vetoer;
        emit RoleTransferred(Role.Operator, address(0), operator);
        emit RoleTransferred(Role.Vetoer, address(0), vetoer);
    }

    /// @dev The bounds that the contract's own arithmetic and bitmaps rest on; the rest is the circuit's business.
    function _checkConstants(Constants memory c) private pure {
        if (c.score == 0 || c.detection == 0 || c.acceptance == 0) revert BadConstants("rules have ids");
        if (c.n < 3 || c.n > MAX_CLIENTS) revert BadConstants("3 <= n <= 253");
        if (c.d == 0 || c.d >= 1 << 31) revert BadConstants("1 <= d < 2^31");
        if (c.b < 8 || c.b > 16 || c.b % 2 != 0) revert BadConstants("b is 8, 10, 12, 14 or 16");
        if (c.chunk == 0 || c.chunk % (252 / c.b) != 0) revert BadConstants("chunk is a multiple of floor(252 / b)");
        if (2 * uint256(c.f) + 2 >= c.n) revert BadConstants("2f + 2 < n");
        if (c.m == 0 || c.m > c.n - c.f) revert BadConstants("1 <= m <= n - f");
        if (c.zDenominator == 0 || c.gammaDenominator == 0) revert BadConstants("denominators are not zero");
    }

    function _checkVerifier(IVerifier verifier, bool needed, string memory which) private view {
        if (needed ? address(verifier).code.length == 0 : address(verifier) != address(0)) revert BadVerifiers(which);
    }

    function _checkSlashing(Slashing memory s) private view {
        if (address(s.slasher).code.length == 0) revert BadSlashing("slasher has code");
        if (s.avs == address(0)) revert BadSlashing("avs is not zero");
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

    function _checkSchedule(Schedule memory s) private pure {
        if (s.commitWindow == 0) revert BadSchedule("commit window is not zero");
        if (s.challengeDelay == 0) revert BadSchedule("challenge delay is not zero");
        if (s.openToSlashable > MAX_OPEN_TO_SLASHABLE) revert BadSchedule("open to slashable <= 14 days");
        if (uint256(s.commitWindow) + s.challengeDelay >= s.openToSlashable) {
            revert BadSchedule("commit window + challenge delay < open to slashable");
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

    /// @notice Accepts an offered role. Nobody holds both.
    function acceptRole(Role role) external {
        if (msg.sender != candidate[role]) revert NotAuthorized(msg.sender, role);
        if (msg.sender == holder[role == Role.Operator ? Role.Vetoer : Role.Operator]) revert RolesMustDiffer(msg.sender);
        emit RoleTransferred(role, holder[role], msg.sender);
        holder[role] = msg.sender;
        delete candidate[role];
    }

    // --------------------------------------------------------------------------------------------------------- a round

    /// @notice Opens a round. A void round is reopened by opening another one, under a new id.
    /// @param roundId Never used before in this contract, not zero.
    /// @param clip Binary64 pattern of the quantization bound: finite, above zero.
    /// @param roster The n clients, distinct, in the order of commitments and bitmap bits.
    /// @param subject SHA-256 of tensor layout and base model, or zero. A subject that is not zero has one live round, and
    /// none after it was decided.
    /// @param commitDeadline Last moment to commit, in seconds since the epoch.
    /// @param proofDeadline Last moment to prove.
    /// @return context What binds proofs and commitments to this round.
    function openRound(
        bytes32 roundId,
        uint64 clip,
        address[] calldata roster,
        bytes32 subject,
        uint48 commitDeadline,
        uint48 proofDeadline
    ) external onlyRole(Role.Operator) returns (bytes32 context) {
        Round storage round = _rounds[roundId];
        if (roundId == 0 || round.terms != address(0)) revert RoundIdUsed(roundId);
        if (clip == 0 || clip >= INFINITY) revert BadClip(clip);
        _checkDeadlines(commitDeadline, proofDeadline);
        if (subject != 0) _takeSubject(subject, roundId);
        context = contextOf(roundId, clip, roster, subject);
        round.terms = _storeTerms(roundId, context, roster);
        round.commitDeadline = commitDeadline;
        round.proofDeadline = proofDeadline;
        emit RoundOpened(roundId, context, clip, subject, commitDeadline, proofDeadline, roster);
    }

    function _checkDeadlines(uint256 commitDeadline, uint256 proofDeadline) private view {
        uint256 earliest = block.timestamp + COMMIT_WINDOW;
        uint256 latest = block.timestamp + OPEN_TO_SLASHABLE - CHALLENGE_DELAY;
        if (commitDeadline < earliest || commitDeadline >= proofDeadline || proofDeadline > latest) {
            revert BadDeadlines(earliest, latest);
        }
    }

    function _takeSubject(bytes32 subject, bytes32 roundId) private {
        bytes32 last = roundOfSubject[subject];
        if (last != 0) {
            Outcome outcome = outcomeOf(last);
            if (outcome != Outcome.Void) revert SubjectTaken(last, outcome);
        }
        roundOfSubject[subject] = roundId;
    }

    /// @notice Posts the caller's commitment.
    /// @param context The round's, as the client knows it: after a reorganization of the chain the same id may stand for a
    /// round with another roster or clip, for which this commitment was not made.
    /// @param index The caller's position in the roster.
    /// @param commitment Any 32 bytes but zero.
    function commit(bytes32 roundId, bytes32 context, uint256 index, bytes32 commitment) external {
        Round storage round = _existing(roundId);
        uint256 deadline = round.commitDeadline;
        if (block.timestamp > deadline) revert TooLate(deadline);
        address terms = round.terms;
        if (index >= N || _client(terms, index) != msg.sender) revert NotInRoster(msg.sender, index);
        if (context != _context(terms)) revert OtherContext(_context(terms));
        if (commitment == 0) revert ZeroCommitment();
        if (round.commitments[index] != 0) revert AlreadyCommitted(index);
        if (ASKED_AT_COMMIT) _checkSlashable();
        round.commitments[index] = commitment;
        emit Committed(roundId, msg.sender, index, commitment);
    }

    function _checkSlashable() private view {
        ISlasher.OperatorSet memory set = ISlasher.OperatorSet(_slashing.avs, _slashing.operatorSetId);
        if (!_slashing.slasher.isOperatorSlashable(msg.sender, set)) revert NotSlashable(msg.sender);
    }

    /// @notice Records that a round is void. Anyone may, once a commitment is missing after its deadline or the proof
    /// deadline has passed without a verdict. (`outcomeOf` says so even if nobody calls this.)
    function voidRound(bytes32 roundId) external {
        Round storage round = _existing(roundId);
        if (round.outcome != Outcome.None) revert AlreadyDecided(round.outcome);
        uint256 missing = _missing(round);
        uint256 deadline = missing == 0 ? round.proofDeadline : round.commitDeadline;
        if (block.timestamp <= deadline) revert TooEarly(deadline);
        round.outcome = Outcome.Void;
        emit RoundVoided(roundId, missing);
    }

    // ----------------------------------------------------------------------------------- the verdict of a whole round

    /// @notice Proves the verdict of a round of one chunk, as soon as all n commitments are there. Anyone may: a valid
    /// proof of another verdict does not exist.
    /// @param proof Under the `round` verifier.
    /// @param leaves One a client: the commitments are recomputed from them.
    /// @param leafOfAggregate The aggregate's: A is computed from it.
    /// @param outputs What the proof says.
    function submit(
        bytes32 roundId,
        bytes calldata proof,
        bytes32[] calldata leaves,
        bytes32 leafOfAggregate,
        Outputs calldata outputs
    ) external returns (Outcome) {
        if (CHUNKS != 1) revert OtherForm(CHUNKS);
        Round storage round = _undecided(roundId);
        uint256 n = N;
        if (leaves.length != n) revert BadLength(leaves.length, n);
        bytes32 context = _context(round.terms);
        bytes32[] memory stated = _stated(round, context);
        bytes32[] memory inputs = new bytes32[](n + 5);
        for (uint256 i = 0; i < n; ++i) {
            bytes32 leaf = _canonical(leaves[i]);
            if (_first(context, i, leaf) != stated[i + 1]) revert OtherCommitment(i);
            inputs[i + 1] = leaf;
        }
        inputs[n + 1] = _canonical(leafOfAggregate);
        stated[n + 1] = _first(context, n, leafOfAggregate);
        inputs[0] = _statement(stated);
        _putOutputs(inputs, outputs);
        if (!ROUND.verify(proof, inputs)) revert ProofRejected();
        return _decide(roundId, round, stated[n + 1], outputs);
    }

    // --------------------------------------------------------------------------------- the verdict of a sharded round

    /// @notice Begins to prove the verdict of a round of several chunks, as soon as all n commitments are there. The claim
    /// is the caller's own; a claim of the caller in this round that has not come to its end is dropped.
    /// @param challenges ρ, x_1 … x_(n-1), s': n + 1 field elements. From now on the outcome is public.
    function begin(bytes32 roundId, bytes32[] calldata challenges) external {
        if (CHUNKS == 1) revert OtherForm(CHUNKS);
        Round storage round = _undecided(roundId);
        uint256 missing = _missing(round);
        for (uint256 i = 0; missing != 0; ++i) {
            if ((missing >> i) & 1 == 1) revert MissingCommitment(i);
        }
        if (challenges.length != N + 1) revert BadLength(challenges.length, N + 1);
        for (uint256 i = 0; i < challenges.length; ++i) _canonical(challenges[i]);
        _claims[roundId][msg.sender] = Claim(_hash(challenges), 0, 0, 0);
        emit ClaimBegun(roundId, msg.sender);
    }

    /// @notice Proves the next shards of the caller's claim, in order, in batches of any size. A batch with one bad proof
    /// leaves the claim as it was.
    /// @param challenges As at `begin`.
    /// @param chains The n + 1 commitment chains so far, the aggregate's last; none before the first shard.
    /// @param shards What follows.
    function prove(
        bytes32 roundId,
        bytes32[] calldata challenges,
        bytes32[] calldata chains,
        Shard[] calldata shards
    ) external {
        bytes32 context = _context(_undecided(roundId).terms);
        Claim storage claim = _claimed(roundId, challenges);
        uint256 next = claim.next;
        if (shards.length == 0 || shards.length > CHUNKS - next) revert BadBatch(shards.length, CHUNKS - next);
        bytes32[] memory heads = _chains(claim, chains, next);
        bytes32[] memory inputs = new bytes32[](2 * N + 4);
        _put(inputs, 0, challenges);
        inputs[inputs.length - 1] = next == 0 ? FIRST_LINK : claim.link;
        for (uint256 k = 0; k < shards.length; ++k) {
            _proveShard(shards[k], context, next, heads, inputs);
            ++next;
        }
        claim.chains = _sha256(heads);
        claim.link = inputs[inputs.length - 1];
        claim.next = next;
        emit ShardsProved(roundId, msg.sender, next);
    }

    /// @dev Checks one proof and advances the chains; `inputs` are those of the shard before, its end link last.
    function _proveShard(
        Shard calldata shard,
        bytes32 context,
        uint256 t,
        bytes32[] memory heads,
        bytes32[] memory inputs
    ) private view {
        uint256 size = N + 1;
        bytes32[] calldata leaves = shard.leaves;
        if (leaves.length != size) revert BadLength(leaves.length, size);
        for (uint256 i = 0; i < size; ++i) {
            bytes32 leaf = _canonical(leaves[i]);
            heads[i] = t == 0 ? _first(context, i, leaf) : _next(heads[i], leaf);
            inputs[size + i] = leaf;
        }
        inputs[2 * size] = inputs[2 * size + 1];
        inputs[2 * size + 1] = _canonical(shard.link);
        bool last = t + 1 == CHUNKS && address(LAST_SHARD) != address(0);
        if (!(last ? LAST_SHARD : SHARD).verify(shard.proof, inputs)) revert ProofRejected();
    }

    /// @notice Proves the verdict that closes the caller's claim, once all shards are proved.
    /// @param challenges As at `begin`.
    /// @param chains The n + 1 commitment chains over all chunks: the n commitments and A.
    /// @param proof Under the `verdict` verifier.
    /// @param outputs What the proof says.
    function conclude(
        bytes32 roundId,
        bytes32[] calldata challenges,
        bytes32[] calldata chains,
        bytes calldata proof,
        Outputs calldata outputs
    ) external returns (Outcome) {
        Round storage round = _undecided(roundId);
        Claim storage claim = _claimed(roundId, challenges);
        bytes32[] memory stated = _concluded(round, claim, chains);
        bytes32[] memory inputs = new bytes32[](N + 6);
        inputs[0] = _statement(stated);
        _put(inputs, 1, challenges);
        inputs[N + 2] = claim.link;
        _putOutputs(inputs, outputs);
        if (!VERDICT.verify(proof, inputs)) revert ProofRejected();
        delete _claims[roundId][msg.sender];
        return _decide(roundId, round, stated[N + 1], outputs);
    }

    /// @dev What the statement of a claim whose shards are all proved is made of: its chains must end at the commitments.
    function _concluded(Round storage round, Claim storage claim, bytes32[] calldata chains)
        private
        view
        returns (bytes32[] memory stated)
    {
        if (claim.next != CHUNKS) revert ShardsMissing(claim.next, CHUNKS);
        bytes32[] memory heads = _chains(claim, chains, CHUNKS);
        stated = _stated(round, _context(round.terms));
        uint256 n = N;
        for (uint256 i = 0; i < n; ++i) {
            if (heads[i] != stated[i + 1]) revert OtherCommitment(i);
        }
        stated[n + 1] = heads[n];
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
    /// A report that the slasher refuses does not hold up the others: it stays pending. One that it accepts is final, even
    /// where there was nothing to slash (`NothingSlashed`).
    /// @dev A slasher that does not answer as `ISlasher` says makes the whole call revert, and with it what it did.
    /// @param clients Bitmap of whom to report (see `pendingOf`); all must be pending.
    /// @return failed Bitmap of those whose report the slasher refused.
    function slash(bytes32 roundId, uint256 clients) external returns (uint256 failed) {
        if (_entered) revert Reentered();
        _entered = true;
        Round storage round = _pendingIn(roundId, clients);
        if (block.timestamp < round.slashableFrom) revert TooEarly(round.slashableFrom);
        round.settled |= clients;

        Slashing memory told = _slashing;
        ISlasher.SlashingParams memory params = ISlasher.SlashingParams({
            operator: address(0),
            operatorSetId: told.operatorSetId,
            strategies: told.strategies,
            wadsToSlash: told.wadsToSlash,
            description: description()
        });
        address terms = round.terms;
        for (uint256 i = 0; clients >> i != 0; ++i) {
            if ((clients >> i) & 1 == 0) continue;
            params.operator = _client(terms, i);
            try told.slasher.slashOperator(told.avs, params) returns (uint256 slashId, uint256[] memory shares) {
                _reportSlashed(roundId, params.operator, i, slashId, shares);
            } catch (bytes memory reason) {
                failed |= 1 << i;
                emit SlashFailed(roundId, params.operator, i, reason);
            }
        }
        if (failed != 0) round.settled ^= failed;
        _entered = false;
    }

    function _reportSlashed(bytes32 roundId, address client, uint256 i, uint256 slashId, uint256[] memory shares)
        private
    {
        for (uint256 k = 0; k < shares.length; ++k) {
            if (shares[k] != 0) {
                emit Slashed(roundId, client, i, slashId, shares);
                return;
            }
        }
        emit NothingSlashed(roundId, client, i, slashId);
    }

    // ---------------------------------------------------------------------------------------------------------- views

    /// @notice The constants the verifiers were rendered for.
    function constants() external view returns (Constants memory) {
        return Constants({
            score: SCORE,
            detection: DETECTION,
            acceptance: ACCEPTANCE,
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

    /// @notice The verifiers.
    function verifiers() external view returns (Verifiers memory) {
        return Verifiers(ROUND, SHARD, LAST_SHARD, VERDICT);
    }

    /// @notice To whom flagged clients are reported and what they lose.
    function slashing() external view returns (Slashing memory) {
        return _slashing;
    }

    /// @notice Bounds on a round's times.
    function schedule() external view returns (Schedule memory) {
        return Schedule(uint32(COMMIT_WINDOW), uint32(CHALLENGE_DELAY), uint32(OPEN_TO_SLASHABLE));
    }

    /// @notice What the slasher is told.
    function description() public view returns (string memory) {
        return string.concat("flagged under rule ", _text(DETECTION), " on scores ", _text(SCORE), " (zkkrum)");
    }

    /// @notice The context of a round: SHA-256 of the protocol's 20 words.
    /// @param roster Exactly n addresses; their distinctness is checked by `openRound`.
    function contextOf(bytes32 roundId, uint64 clip, address[] calldata roster, bytes32 subject)
        public
        view
        returns (bytes32)
    {
        if (roster.length != N) revert BadRosterLength(roster.length, N);
        // Static types: the parts concatenate to one abi.encode of all the words. encodePacked pads array items.
        bytes memory words = bytes.concat(
            abi.encode(PROTOCOL, SCORE, DETECTION, ACCEPTANCE, N, D, B, CHUNK, F, M),
            abi.encode(Z_NUMERATOR, Z_DENOMINATOR, GAMMA_NUMERATOR, GAMMA_DENOMINATOR, clip),
            abi.encode(sha256(abi.encodePacked(roster)), subject, roundId, block.chainid, address(this))
        );
        return sha256(words);
    }

    /// @notice The outcome, `Void` included from the moment no other is possible.
    function outcomeOf(bytes32 roundId) public view returns (Outcome) {
        Round storage round = _existing(roundId);
        if (round.outcome != Outcome.None) return round.outcome;
        bool dead = block.timestamp > round.proofDeadline
            || (block.timestamp > round.commitDeadline && _missing(round) != 0);
        return dead ? Outcome.Void : Outcome.None;
    }

    /// @notice How far somebody's claim has come, for whoever wants to go on with it.
    /// @return outcome The round's; a claim goes on only while it is `None`.
    /// @return challenges SHA-256 of its challenges; zero: none was begun.
    /// @return next Shards proved.
    /// @return link Where the next shard starts.
    /// @return chains SHA-256 of its chains; zero before the first shard.
    function claimOf(bytes32 roundId, address sender)
        external
        view
        returns (Outcome outcome, bytes32 challenges, uint256 next, bytes32 link, bytes32 chains)
    {
        outcome = outcomeOf(roundId);
        Claim storage claim = _claims[roundId][sender];
        (challenges, next, chains) = (claim.challenges, claim.next, claim.chains);
        link = next == 0 ? FIRST_LINK : claim.link;
    }

    /// @notice Bitmap of flagged clients that were neither reported nor spared.
    function pendingOf(bytes32 roundId) public view returns (uint256) {
        Round storage round = _existing(roundId);
        return round.flagged & ~round.settled;
    }

    /// @notice All that is stored of a round.
    function roundOf(bytes32 roundId) external view returns (RoundView memory shown) {
        Round storage round = _existing(roundId);
        shown.context = _context(round.terms);
        shown.commitDeadline = round.commitDeadline;
        shown.proofDeadline = round.proofDeadline;
        shown.outcome = outcomeOf(roundId);
        shown.slashableFrom = round.slashableFrom;
        shown.flagged = round.flagged;
        shown.settled = round.settled;
        shown.roster = new address[](N);
        shown.commitments = new bytes32[](N);
        for (uint256 i = 0; i < N; ++i) {
            shown.roster[i] = _client(round.terms, i);
            shown.commitments[i] = round.commitments[i];
        }
    }

    // ---------------------------------------------------------------------------------------------- internals: rounds

    function _existing(bytes32 roundId) private view returns (Round storage round) {
        round = _rounds[roundId];
        if (round.terms == address(0)) revert UnknownRound(roundId);
    }

    /// @dev A round that can still be judged.
    function _undecided(bytes32 roundId) private view returns (Round storage round) {
        round = _existing(roundId);
        if (round.outcome != Outcome.None) revert AlreadyDecided(round.outcome);
        if (block.timestamp > round.proofDeadline) revert TooLate(round.proofDeadline);
    }

    function _pendingIn(bytes32 roundId, uint256 clients) private view returns (Round storage round) {
        round = _existing(roundId);
        if (clients == 0 || clients & ~pendingOf(roundId) != 0) revert NotPending(clients);
    }

    /// @dev Bitmap of clients who did not commit.
    function _missing(Round storage round) private view returns (uint256 missing) {
        uint256 n = N;
        for (uint256 i = 0; i < n; ++i) {
            if (round.commitments[i] == 0) missing |= 1 << i;
        }
    }

    /// @dev What a statement is made of: context, commitments, and room for A.
    function _stated(Round storage round, bytes32 context) private view returns (bytes32[] memory stated) {
        uint256 n = N;
        stated = new bytes32[](n + 2);
        stated[0] = context;
        for (uint256 i = 0; i < n; ++i) {
            bytes32 commitment = round.commitments[i];
            if (commitment == 0) revert MissingCommitment(i);
            stated[i + 1] = commitment;
        }
    }

    /// @dev Checks the outputs and puts them last.
    function _putOutputs(bytes32[] memory inputs, Outputs calldata outputs) private view {
        (uint256 malicious, uint256 flagged, uint256 selected) =
            (outputs.malicious, outputs.flagged, outputs.selected);
        // Also what keeps each of the three canonical, as 2^N <= 2^253 < P.
        if (malicious > 1 || flagged >> N != 0 || selected >> N != 0 || (malicious == 0 && flagged != 0)) {
            revert BadVerdict(malicious, flagged, selected);
        }
        uint256 end = inputs.length;
        inputs[end - 3] = bytes32(malicious);
        inputs[end - 2] = bytes32(flagged);
        inputs[end - 1] = bytes32(selected);
    }

    function _decide(bytes32 roundId, Round storage round, bytes32 aggregate, Outputs calldata outputs)
        private
        returns (Outcome outcome)
    {
        uint256 flagged = outputs.flagged;
        if (outputs.malicious == 0) {
            outcome = Outcome.Honest;
        } else if (flagged == 0) {
            outcome = Outcome.Unattributed;
        } else {
            outcome = Outcome.Flagged;
            round.flagged = flagged;
            round.slashableFrom = uint48(block.timestamp + CHALLENGE_DELAY);
        }
        round.outcome = outcome;
        emit Verdict(roundId, msg.sender, outcome, aggregate, flagged, outputs.selected);
    }

    // ---------------------------------------------------------------------------------------------- internals: claims

    /// @dev The caller's claim, which the challenges belong to.
    function _claimed(bytes32 roundId, bytes32[] calldata challenges) private view returns (Claim storage claim) {
        if (CHUNKS == 1) revert OtherForm(CHUNKS);
        claim = _claims[roundId][msg.sender];
        bytes32 expected = claim.challenges;
        if (expected == 0) revert NoClaim(msg.sender);
        if (challenges.length != N + 1) revert BadLength(challenges.length, N + 1);
        if (_hash(challenges) != expected) revert OtherChallenges();
    }

    /// @dev The chains of a claim in memory; before the first shard there are none, and room for them.
    function _chains(Claim storage claim, bytes32[] calldata chains, uint256 next)
        private
        view
        returns (bytes32[] memory heads)
    {
        uint256 expected = next == 0 ? 0 : N + 1;
        if (chains.length != expected) revert BadLength(chains.length, expected);
        if (next != 0 && _hash(chains) != claim.chains) revert OtherChains();
        heads = new bytes32[](N + 1);
        _put(heads, 0, chains);
    }

    // ------------------------------------------------------------------------------------------- internals: arithmetic

    function _canonical(bytes32 word) private pure returns (bytes32) {
        if (uint256(word) >= P) revert NotCanonical(uint256(word));
        return word;
    }

    function _hash(bytes32[] calldata words) private view returns (bytes32) {
        return sha256(abi.encodePacked(words));
    }

    /// @dev Copies words into an array, from an index on; they must fit.
    function _put(bytes32[] memory into, uint256 start, bytes32[] calldata words) private pure {
        for (uint256 i = 0; i < words.length; ++i) into[start + i] = words[i];
    }

    /// @dev h_0 = SHA-256(context, i, leaf), the head of a commitment chain.
    function _first(bytes32 context, uint256 i, bytes32 leaf) private view returns (bytes32 head) {
        bool ok;
        assembly ("memory-safe") {
            let free := mload(0x40)
            mstore(free, context)
            mstore(add(free, 0x20), i)
            mstore(add(free, 0x40), leaf)
            ok := staticcall(gas(), 2, free, 0x60, 0, 0x20)
            head := mload(0)
        }
        if (!ok) revert Sha256Failed();
    }

    /// @dev h_t = SHA-256(h_(t-1), leaf).
    function _next(bytes32 head, bytes32 leaf) private view returns (bytes32 next) {
        bool ok;
        assembly ("memory-safe") {
            mstore(0, head)
            mstore(0x20, leaf)
            ok := staticcall(gas(), 2, 0, 0x40, 0, 0x20)
            next := mload(0)
        }
        if (!ok) revert Sha256Failed();
    }

    function _sha256(bytes32[] memory words) private view returns (bytes32 digest) {
        bool ok;
        assembly ("memory-safe") {
            ok := staticcall(gas(), 2, add(words, 0x20), mul(mload(words), 0x20), 0, 0x20)
            digest := mload(0)
        }
        if (!ok) revert Sha256Failed();
    }

    /// @dev SHA-256(context, commitments, A) mod P.
    function _statement(bytes32[] memory stated) private view returns (bytes32) {
        return bytes32(uint256(_sha256(stated)) % P);
    }

    // ----------------------------------------------------------------------------------------------- internals: terms

    /// @dev Checks that the addresses are distinct and not zero, and writes context and roster into the code of a new
    /// contract.
    function _storeTerms(bytes32 roundId, bytes32 context, address[] calldata roster) private returns (address terms) {
        uint256 code;
        uint256 size = 33 + 20 * roster.length;
        assembly ("memory-safe") {
            code := mload(0x40)
            // Creation code (10 bytes) returning what follows it: a STOP byte, so that nobody can run it, and the data.
            // PUSH2 size, DUP1, PUSH1 10, RETURNDATASIZE, CODECOPY, RETURNDATASIZE, RETURN; STOP
            mstore(code, shl(168, or(0x61000080600a3d393df300, shl(64, size))))
            mstore(add(code, 11), context)
            // The last mstore below writes up to 12 bytes beyond the data.
            mstore(0x40, add(code, and(add(add(size, 10), 63), not(31))))
        }
        for (uint256 i = 0; i < roster.length; ++i) {
            address client = roster[i];
            bool seen;
            assembly ("memory-safe") {
                // Transient storage as a set. A round id is opened once, so nothing of an earlier call is under these keys.
                mstore(0, roundId)
                mstore(0x20, client)
                let key := keccak256(0, 0x40)
                seen := tload(key)
                tstore(key, 1)
                mstore(add(add(code, 43), mul(i, 20)), shl(96, client))
            }
            if (seen || client == address(0)) revert BadRosterAddress(i, client);
        }
        assembly ("memory-safe") {
            // RETURNDATASIZE stands for zero in the creation code, and is zero in a new frame.
            terms := create(0, code, add(size, 10))
            if iszero(terms) { revert(0, 0) }
        }
    }

    /// @dev Address i of a stored roster; i must be below n.
    function _client(address terms, uint256 i) private view returns (address client) {
        assembly ("memory-safe") {
            extcodecopy(terms, 0, add(33, mul(i, 20)), 20)
            client := shr(96, mload(0))
        }
    }

    function _context(address terms) private view returns (bytes32 context) {
        assembly ("memory-safe") {
            extcodecopy(terms, 0, 1, 32)
            context := mload(0)
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
